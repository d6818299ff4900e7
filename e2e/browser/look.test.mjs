// Every state, as people see and hear it: the gallery, with axe.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';

import { complaints, eventually, launch } from './chromium.mjs';
import { serve, SHOP, simulate } from './server.mjs';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** Where screenshots are kept, for those who want to look at them. */
const pictures = process.env.SCREENSHOTS;

let browser;
let server;

before(async () => {
  server = await serve('Caddyfile.example');
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

async function violations(page) {
  await page.evaluate(axe);
  const { violations: list } = await page.evaluate((values) => window.axe.run(document, { runOnly: { type: 'tag', values }, resultTypes: ['violations'] }), RULES);
  return list.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
}

const ask = (self) => fetch(SHOP + self, { headers: { Accept: 'application/json' } }).then((response) => response.json());

const states = [...(await readFile(new URL('../../examples/gallery/gallery.js', import.meta.url), 'utf8')).matchAll(/^ {2}'([^']+)': /gm)].map(([, name]) => name);

test('the gallery has every state', () => {
  assert.ok(states.length >= 19, states.join());
});

for (const ground of ['light', 'dark']) {
  describe(ground, () => {
    for (const name of states) {
      test(name, async () => {
        const page = await browser.newPage({ viewport: { width: 390, height: 844 }, colorScheme: ground });
        const heard = complaints(page);
        await page.goto(`${SHOP}/gallery/?state=${encodeURIComponent(name)}&ground=${ground}`);
        await page.locator(name === 'loading' ? 'ccpayment-checkout[state=loading]' : 'ccpayment-checkout[state]:not([state=loading])').waitFor();
        if (name !== 'form') await eventually('something is shown', () => page.evaluate(() => document.querySelector('ccpayment-checkout').shadowRoot.querySelector('.panel:not([hidden]), .problem:not(:empty)') !== null));
        await page.waitForLoadState('networkidle');
        if (pictures) await page.screenshot({ path: `${pictures}/${ground} ${name}.png`, fullPage: true });
        assert.deepEqual(await violations(page), []);
        assert.deepEqual(heard, []);
        await page.close();
      });
    }
  });
}

for (const lang of ['de', 'es', 'fr', 'pt-BR', 'ru', 'tr', 'zh-CN', 'ja', 'ar']) {
  test(`every state fits a phone in ${lang}`, async () => {
    const page = await browser.newPage({ viewport: { width: 320, height: 640 } });
    await page.goto(`${SHOP}/gallery/?lang=${lang}&ground=light`);
    await eventually('all are shown', () => page.evaluate(() => document.querySelectorAll('ccpayment-checkout:is([state=idle], [state=creating])').length <= 2 && document.querySelectorAll('ccpayment-checkout[state=loading]').length === 1));
    await page.waitForLoadState('networkidle');
    if (pictures) await page.screenshot({ path: `${pictures}/all ${lang}.png`, fullPage: true });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
    const found = await page.evaluate(() => [...document.querySelectorAll('ccpayment-checkout')].flatMap((node) => [...node.shadowRoot.querySelectorAll('.panel:not([hidden]) *')])
      .filter((node) => node.getBoundingClientRect().width > 0 && (node.getBoundingClientRect().right > innerWidth + 0.5 || node.getBoundingClientRect().left < -0.5))
      .map((node) => node.outerHTML.slice(0, 100)));
    assert.deepEqual(found, []);
    assert.deepEqual(await violations(page).then((list) => list.filter((line) => !/^landmark-unique/.test(line))), []);
    await page.close();
  });
}

test('the server’s own pages are as good, in every state', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ viewport: { width: 320, height: 640 }, colorScheme, locale: 'fr-FR' });
    const page = await context.newPage();
    for (const [method, steps] of [['usdt-trc20', ['', 'pay-part', 'overpay']], ['xrp', ['', 'detect', 'confirm']], ['btc', ['']]]) {
      const response = await fetch(`${SHOP}/pay/bills`, {
        method: 'POST', headers: { Accept: 'application/json' }, body: new URLSearchParams({ item: 'field-guide', quantity: '1', method }),
      });
      const bill = await response.json();
      for (const step of steps) {
        const { seq } = await ask(bill.self);
        if (step) {
          await simulate(bill.reference, step);
          await eventually('the shop has it', async () => (await ask(bill.self)).seq > seq);
        }
        await page.goto(SHOP + bill.self);
        if (pictures) await page.screenshot({ path: `${pictures}/page ${colorScheme} ${method} ${step}.png`, fullPage: true });
        assert.deepEqual(await violations(page), [], `${method} ${step}`);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
      }
    }
    await page.goto(`${SHOP}/pay/bills/AAAAAAAAAAAAAAAAAAAAAA`);
    assert.deepEqual(await violations(page), []);
    await context.close();
  }
});

test('the demo shop is, with a bill in it', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme });
    await page.goto(SHOP);
    await page.getByRole('button', { name: 'Buy the field guide' }).click();
    await page.getByRole('heading', { name: 'Waiting for your payment' }).waitFor();
    if (pictures) await page.screenshot({ path: `${pictures}/shop ${colorScheme}.png`, fullPage: true });
    assert.deepEqual(await violations(page), []);
    await page.close();
  }
});
