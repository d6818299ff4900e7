// The examples that people copy, each as it is shipped.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';

import { complaints, launch } from './chromium.mjs';
import { serve, SHOP, simulate } from './server.mjs';

const run = promisify(execFile);

let browser;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** Buys on a page of an example and pays in the simulator. */
async function buy(path, button, fill = async () => {}) {
  const page = await browser.newPage({ viewport: { width: 390, height: 844 } });
  page.setDefaultTimeout(15000);
  const heard = complaints(page);
  await page.goto(SHOP + path);
  await fill(page);
  await page.getByRole('button', { name: button }).click();
  await page.getByRole('heading', { name: 'Waiting for your payment' }).waitFor();
  const bill = await page.locator('ccpayment-checkout[bill]').evaluate((node) => node.bill);
  await simulate(bill.reference, 'pay');
  await page.getByRole('heading', { name: 'Paid. Thank you!' }).waitFor();
  assert.deepEqual(heard, []);
  return { page, bill };
}

describe('examples/plain', () => {
  let server;
  before(async () => {
    server = await serve('examples/plain/Caddyfile');
  });
  after(() => server?.stop());

  test('sells a product', async () => {
    const { page, bill } = await buy('/', 'Pay with crypto', (p) => p.getByLabel('Copies').fill('2'));
    assert.equal(bill.price.amount, '36.00');
    assert.equal(bill.pay.network, 'TRON (TRC20)');
    await page.getByText('Your print is on its way.').waitFor();
    await page.close();
  });

  test('takes a donation', async () => {
    const { page, bill } = await buy('/', 'Give in USDT', (p) => p.getByLabel('Amount').fill('3.50'));
    assert.equal(bill.price.amount, '3.50');
    await page.close();
  });

  test('is the page that the README tells to write', async () => {
    const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
    const section = readme.slice(readme.indexOf('## Put it on your page'), readme.indexOf('### Its look'));
    const blocks = [...section.matchAll(/```html\n([\s\S]*?)```/g)].map(([, block]) => block);
    assert.equal(blocks.length, 2);
    const shipped = await readFile(new URL('../../examples/plain/public/index.html', import.meta.url), 'utf8');
    const lines = (text) => text.split('\n').map((line) => line.trim()).filter(Boolean);
    for (const line of lines(blocks.join(''))) assert.ok(lines(shipped).includes(line), `the example has no line ${line}`);
  });
});

describe('examples/hugo', () => {
  let server;
  before(async () => {
    server = await serve('examples/hugo/Caddyfile', async (dir) => {
      await run('hugo', ['--source', join(dir, 'examples/hugo')]).catch((error) => {
        throw error.code === 'ENOENT' ? new Error('the example needs Hugo; on Debian: apt-get install hugo') : error;
      });
    });
  });
  after(() => server?.stop());

  test('sells a product at the price that it shows', async () => {
    const { page, bill } = await buy('/shop/fern/', 'Pay with crypto');
    assert.equal(bill.price.amount, '14.00');
    await page.goto('about:blank');
    await page.goto(`${SHOP}/shop/fern/`);
    assert.ok(await page.getByText('14.00 USD').first().isVisible());
    await page.close();
  });

  test('has a shortcode for the text of a page', async () => {
    const { page, bill } = await buy('/about/', 'Give in crypto', (p) => p.getByLabel('Amount in USD').fill('25'));
    assert.equal(bill.price.amount, '25.00');
    await page.close();
  });

  test('loads the checkout only where something is sold', async () => {
    const scripts = async (path) => (await (await fetch(SHOP + path)).text()).match(/<script/g)?.length ?? 0;
    assert.deepEqual([await scripts('/'), await scripts('/shop/'), await scripts('/shop/moss/'), await scripts('/about/')], [0, 0, 1, 1]);
  });
});
