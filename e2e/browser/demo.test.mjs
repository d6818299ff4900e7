// A buyer's whole path in the demo, with the program as it is built.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import jsqr from 'jsqr';
import { PNG } from 'pngjs';

import { complaints, eventually, launch } from './chromium.mjs';
import { inbox, serve, SHOP, simulate, SIMULATOR } from './server.mjs';

let browser;
let server;
let page;
let heard;

before(async () => {
  server = await serve('Caddyfile.example');
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});
beforeEach(async () => {
  page = await browser.newPage({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 });
  page.setDefaultTimeout(15000);
  heard = complaints(page);
});
afterEach(async () => {
  await page.context().close();
  assert.deepEqual(heard, [], 'the page complains about nothing');
});

const panel = () => page.locator('ccpayment-checkout[bill]');
const bill = () => panel().evaluate((node) => node.bill);

async function buy(button, method) {
  await page.goto(SHOP);
  const form = page.locator('form').filter({ has: page.getByRole('button', { name: button }) });
  if (method) await form.getByLabel('Pay with').selectOption(method);
  await form.getByRole('button', { name: button }).click();
  await page.getByRole('heading', { name: 'Waiting for your payment' }).waitFor();
  return bill();
}

/** Reads a code from what is on the screen, as a phone does. */
async function scan() {
  const image = page.locator('img.qr');
  await image.scrollIntoViewIfNeeded();
  await eventually('the code is drawn', () => image.evaluate((img) => img.complete && img.naturalWidth > 0));
  const { data, width, height } = PNG.sync.read(await image.screenshot());
  return jsqr(new Uint8ClampedArray(data), width, height)?.data;
}

test('buy, pay too little, see what is due, pay the rest, see that it is paid, find the event', async () => {
  const { reference, pay } = await buy('Buy the field guide');
  assert.ok(await page.getByText('This is a test. Do not send money').first().isVisible(), 'nobody should pay a simulated bill');
  assert.equal(await page.locator('code.address').textContent(), pay.address);
  assert.equal(await scan(), pay.address);
  assert.ok(await page.getByText(`Send exactly ${pay.due} USDT on TRON (TRC20).`, { exact: true }).isVisible());

  // The buyer finds the order in the simulator by its amount and presses a button.
  const simulator = await browser.newPage();
  await simulator.goto(SIMULATOR);
  const order = simulator.locator('article, section, li, tr, div').filter({ hasText: reference }).filter({ has: simulator.getByRole('button', { name: 'Pay half' }) }).last();
  await order.getByRole('button', { name: 'Pay half' }).click();
  await simulator.close();
  await page.getByRole('heading', { name: 'Part of the amount has arrived' }).waitFor();
  const half = await bill();
  assert.notEqual(half.pay.due, pay.due);
  assert.ok(await page.getByText(`Send exactly ${half.pay.due} USDT on TRON (TRC20).`, { exact: true }).isVisible());
  assert.equal(await page.locator('code.amount').textContent(), half.pay.due);
  assert.equal(await scan(), pay.address);

  // A reload in between loses nothing.
  await page.reload();
  await page.getByText(`Send exactly ${half.pay.due} USDT on TRON (TRC20).`, { exact: true }).waitFor();

  await simulate(reference, 'pay');
  await page.getByRole('heading', { name: 'Paid. Thank you!' }).waitFor();
  assert.equal(await page.locator('code.address').isVisible(), false);
  await eventually('both events are in the inbox', async () => (await inbox()).filter(({ Subject, subject }) => (Subject ?? subject) === reference).length === 2);
  const events = (await inbox()).filter((entry) => (entry.Subject ?? entry.subject) === reference);
  assert.deepEqual(events.map((entry) => entry.Type ?? entry.type), ['bill.paid', 'bill.underpaid']);
  assert.ok(events.every((entry) => entry.Verified ?? entry.verified));

  await page.getByRole('link', { name: 'Open the page of this payment' }).click();
  await page.getByRole('heading', { name: 'Paid. Thank you!' }).waitFor();
  assert.equal(new URL(page.url()).pathname, (await page.evaluate(() => location.pathname)));
  await page.getByRole('link', { name: 'Back to the shop' }).click();
  await page.getByRole('heading', { name: 'Thank you. Travel well.' }).waitFor();
});

test('a wallet gets the amount where its network has a form for that', async () => {
  const { pay } = await buy('Buy the star map', 'btc');
  assert.match(pay.uri, /^bitcoin:bc1.*\?amount=/);
  assert.equal(await scan(), pay.uri);
  assert.equal(await page.getByRole('link', { name: 'Open in wallet' }).getAttribute('href'), pay.uri);
});

test('the code asks for the rest, once part of it is paid', async () => {
  const { reference } = await buy('Buy the star map', 'btc');
  const before = await scan();
  await simulate(reference, 'pay-part');
  await page.getByRole('heading', { name: 'Part of the amount has arrived' }).waitFor();
  const { pay } = await bill();
  await eventually('the code is another', async () => await scan() === pay.uri);
  assert.notEqual(pay.uri, before);
});

test('a tag stands before the address, and the code waits behind it', async () => {
  const { pay } = await buy('Buy the trail lantern', 'xrp');
  assert.match(pay.memo, /^\d+$/);
  assert.equal(await page.locator('code.memo').textContent(), pay.memo);
  assert.equal(await page.locator('img.qr').isVisible(), false);
  await page.getByText('Show the QR code (it does not contain the memo)').click();
  assert.equal(await scan(), pay.address);
});

test('confirming, overpaid, failed, late: each is told as it happens', async () => {
  let { reference } = await buy('Buy the field guide');
  await simulate(reference, 'detect');
  await page.getByRole('heading', { name: 'Payment seen, waiting for confirmation' }).waitFor();
  assert.equal(await page.locator('code.address').isVisible(), false);
  await simulate(reference, 'fail');
  await page.getByText('A payment has failed and was not counted.').first().waitFor();
  await simulate(reference, 'overpay');
  await page.getByText('You have sent more than was due').first().waitFor();

  await page.goto('about:blank');
  ({ reference } = await buy('Buy the field guide', 'usdt-bsc'));
  await simulate(reference, 'pay', { wrong_token: '1' });
  await page.getByText('not counted: another coin or network').first().waitFor();
});

test('an order that the gateway refuses is told as refused', async () => {
  await fetch(`${SIMULATOR}/sandbox/faults`, { method: 'POST', body: new URLSearchParams({ endpoint: 'bill/create', fault: 'error' }) });
  await page.goto(SHOP);
  await page.getByRole('button', { name: 'Buy the field guide' }).click();
  await page.getByText('The payment gateway has refused the order.').waitFor();
  await page.getByRole('button', { name: 'Buy the field guide' }).click();
  await page.getByRole('heading', { name: 'Waiting for your payment' }).waitFor();
});

test('a donation names its own amount', async () => {
  await page.goto(SHOP);
  await page.getByLabel('Amount in US dollars').fill('7.50');
  await page.getByRole('button', { name: 'Give to the trail fund' }).click();
  await page.getByRole('heading', { name: 'Waiting for your payment' }).waitFor();
  assert.equal((await bill()).price.amount, '7.50');
});

test('without JavaScript the same form leads to the same bill', async () => {
  const context = await browser.newContext({ javaScriptEnabled: false, locale: 'de-DE' });
  const plain = await context.newPage();
  await plain.goto(SHOP);
  await plain.getByRole('button', { name: 'Buy the field guide' }).click();
  await plain.getByRole('heading', { name: 'Wir warten auf Ihre Zahlung' }).waitFor();
  assert.match(plain.url(), /\/pay\/bills\//);
  await context.close();
});

test('the address is there one round trip after the answer, however far away the shop is', async () => {
  const cdp = await page.context().newCDPSession(page);
  await page.goto(SHOP);
  await page.waitForLoadState('networkidle');
  await cdp.send('Network.enable');
  await cdp.send('Network.emulateNetworkConditions', { offline: false, latency: 300, downloadThroughput: -1, uploadThroughput: -1 });
  const took = await page.evaluate(async () => {
    const checkout = document.querySelector('ccpayment-checkout');
    const start = performance.now();
    checkout.querySelector('form').requestSubmit();
    while (!checkout.shadowRoot.querySelector('code.address')?.textContent) await new Promise((resolve) => setTimeout(resolve, 5));
    return performance.now() - start;
  });
  // One round trip of 300 ms and what the shop and the gateway need; a second would make it 600.
  assert.ok(took > 250 && took < 600, `${took} ms`);
});
