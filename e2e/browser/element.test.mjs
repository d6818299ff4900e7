// The element in a real browser, on a page with the strictest policy, against a shop
// whose faults can be chosen.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { complaints, eventually, launch } from './chromium.mjs';
import { ADDRESS, confirming, ELEMENT, expired, FORM, html, paid, problem, Shop, underpaid } from './shop.mjs';

let browser;
let shop;
let page;
let heard;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

beforeEach(async () => {
  shop = await Shop.open();
  page = await browser.newPage({ viewport: { width: 390, height: 844 }, timezoneId: 'Asia/Dubai' });
  page.setDefaultTimeout(15000);
  heard = complaints(page);
});
afterEach(async () => {
  await page.context().close();
  shop.close();
  assert.deepEqual(heard, [], 'the page complains about nothing');
});

const open = (path = '/') => page.goto(shop.origin + path);
const button = () => page.getByRole('button', { name: 'Pay with crypto' });
const heading = (text) => page.getByRole('heading', { name: text });
const element = () => page.locator('ccpayment-checkout').first();
const state = () => element().getAttribute('state');
const token = () => [...shop.bills.keys()].at(-1);
const said = (role) => page.evaluate((name) => document.querySelector('ccpayment-checkout').shadowRoot.querySelector(`p[role=${name}]`)?.textContent ?? '', role);

const GONE = 'The shop does not know this payment any more. If you have already paid, do not pay again; contact the shop.';

/** A machine without a network believes to be offline. */
const LOST = /The connection was lost\. This page keeps trying|You are offline/;

/** Waits for a warning to whoever wrote the page, which is then no complaint. */
async function warning(pattern) {
  await eventually(`there is a warning like ${pattern}`, () => heard.some((text) => pattern.test(text)));
  assert.equal(heard.splice(0).length, 1);
}

/** Takes the network away or gives it back, and tells the page, which a machine without one does not. */
async function network(there) {
  await page.context().setOffline(!there);
  await page.evaluate((event) => dispatchEvent(new Event(event)), there ? 'online' : 'offline');
}

async function buy() {
  await open();
  await button().click();
  await heading('Waiting for your payment').waitFor();
}

describe('ordering', () => {
  test('asks for nothing but its own files before the buyer clicks', async () => {
    await open();
    await page.waitForLoadState('networkidle');
    assert.equal(await state(), 'idle');
    assert.deepEqual(shop.requests.filter((r) => !/favicon/.test(r)).sort(), [
      'GET /', 'GET /pay/checkout-client.js', 'GET /pay/checkout-view.js', 'GET /pay/checkout.css', 'GET /pay/checkout.js', 'GET /pay/messages/en.json',
    ]);
    assert.ok(await button().isVisible());
  });

  test('shows what to send, in the order in which it matters', async () => {
    await buy();
    const text = await page.evaluate(() => document.querySelector('ccpayment-checkout').shadowRoot.querySelector('.panel').innerText);
    let at = -1;
    for (const words of ['Waiting for your payment', 'Send exactly 50.0137 USDT on TRC20.', 'Send only USDT, and only on TRC20.', 'Amount', '50.0137', 'Address', 'Copy address',
      'Its fee comes on top: exactly 50.0137 USDT must arrive', 'Pay before Jan 2, 2026, 8:04 PM GMT+4', 'Time left: 2', 'Field guide', '2 × 25.00 USD', '50.00 USD', 'reference-of-toke']) {
      const next = text.indexOf(words, at + 1);
      assert.ok(next > at, `${words} after ${text.slice(0, at)} in ${text}`);
      at = next;
    }
    const qr = await page.getByAltText('QR code of the address below').boundingBox();
    const address = await page.locator('.address').boundingBox();
    assert.ok(qr.y < address.y);
    assert.equal(await page.locator('.address').textContent(), ADDRESS);
    assert.equal(await button().isVisible(), false);
    assert.deepEqual(shop.orders.map(({ body }) => body), ['item=field-guide&quantity=2&method=usdt-trc20']);
    assert.match(shop.orders[0].key, /^\d+-\d+-\d+-\d+$/);
  });

  test('has the code in the first 640 pixels of the panel on a phone', async () => {
    await buy();
    const panel = await page.locator('.panel').boundingBox();
    const qr = await page.getByAltText('QR code of the address below').boundingBox();
    assert.equal(qr.width, 240);
    assert.ok(qr.y + qr.height - panel.y <= 640, `${qr.y + qr.height - panel.y}`);
  });

  test('shows the address one round trip after the click', async () => {
    await open();
    await page.waitForLoadState('networkidle');
    // Whatever else is asked for gets no answer.
    let release;
    shop.hold = new Promise((resolve) => { release = resolve; });
    await button().click();
    await page.locator('.address').filter({ hasText: 'TYWn' }).waitFor({ timeout: 2000 });
    release();
  });

  test('makes one bill of a double click', async () => {
    await open();
    shop.faults = ['slow'];
    await button().dblclick();
    await page.evaluate(() => document.querySelector('form').requestSubmit());
    await heading('Waiting for your payment').waitFor();
    assert.equal(shop.orders.length, 1);
    assert.equal(shop.bills.size, 1);
  });

  test('says at once that something happens', async () => {
    await open();
    await page.waitForLoadState('networkidle');
    shop.faults = ['slow'];
    const took = await page.evaluate(async () => {
      const start = performance.now();
      document.querySelector('form').requestSubmit();
      const checkout = document.querySelector('ccpayment-checkout');
      while (checkout.shadowRoot.querySelector('h2')?.textContent !== 'Preparing your payment…') await new Promise((resolve) => setTimeout(resolve, 5));
      return performance.now() - start;
    });
    assert.ok(took < 100, `${took} ms`);
    assert.equal(await state(), 'creating');
    assert.equal(await page.evaluate(() => document.querySelector('ccpayment-checkout').shadowRoot.activeElement?.textContent), 'Preparing your payment…');
    await heading('Waiting for your payment').waitFor();
  });

  test('sends an order whose answer was lost again, with the same key', async () => {
    await open();
    shop.faults = ['lost'];
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.equal(shop.orders.length, 2);
    assert.equal(shop.orders[0].key, shop.orders[1].key);
    assert.equal(shop.bills.size, 1, 'the bill of the lost answer is the one that is shown');
  });

  test('sends an order made offline once the device is back', async () => {
    await open();
    await page.waitForLoadState('networkidle');
    await network(false);
    await button().click();
    await page.getByText('You are offline. This page goes on as soon as you are back.').first().waitFor();
    await network(true);
    await heading('Waiting for your payment').waitFor();
    assert.equal(shop.bills.size, 1);
  });

  test('shows why an order was refused, and keeps the form', async () => {
    await open();
    shop.faults = [502];
    await page.getByLabel('Copies').fill('3');
    await button().click();
    await page.getByText('The payment gateway has refused the order.').waitFor();
    assert.equal(await state(), 'error');
    assert.equal(await page.getByLabel('Copies').inputValue(), '3');
    assert.equal(await page.getByRole('button', { name: 'Try again' }).count(), 0, 'trying again would not help');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Pay with crypto');
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.notEqual(shop.orders[0].key, shop.orders[1].key, 'a new order');
    assert.equal(await page.getByText('has refused').isVisible(), false);
  });

  for (const [fault, words] of [[429, 'Too many orders in a short time.'], [503, 'The shop could not be reached.'], ['dropped', 'The shop could not be reached.']]) {
    test(`lets the buyer try again after ${fault}, with the same key`, async () => {
      await open();
      shop.faults = Array(20).fill(fault);
      await button().click();
      await page.getByText(words).waitFor();
      const sent = shop.orders.length;
      // The browser itself sends again when a connection breaks.
      assert.ok(fault === 429 ? sent === 1 : sent >= 3, `no answer is tried again at once, a refusal is not: ${sent}`);
      shop.faults = [];
      await page.getByRole('button', { name: 'Try again' }).click();
      await heading('Waiting for your payment').waitFor();
      assert.equal(new Set(shop.orders.map(({ key }) => key)).size, 1);
      assert.equal(shop.bills.size, 1);
    });
  }

  test('takes a refusal that is some proxy’s page for final, and tells the author', async () => {
    await open();
    shop.faults = [html(403)];
    await button().click();
    await page.getByText('The order could not be taken. Nothing was charged. Please contact the shop.').waitFor();
    await warning(/\/pay\/bills answers 403, and not as JSON/);
    assert.equal(shop.orders.length, 1, 'it is not asked again');
    assert.equal(await page.getByRole('button', { name: 'Try again' }).count(), 0);

    shop.faults = [html(429)];
    await button().click();
    await page.getByText('Too many orders in a short time.').waitFor();
    assert.equal(shop.orders.length, 2);
    await page.getByRole('button', { name: 'Try again' }).click();
    await heading('Waiting for your payment').waitFor();
  });

  test('sends an order again after an error of no known kind, with the same key', async () => {
    await open();
    shop.faults = [problem(500, { title: 'Internal Server Error' })];
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.equal(shop.orders.length, 2);
    assert.equal(shop.orders[0].key, shop.orders[1].key);
  });

  test('tells the author of the page what is wrong with it', async () => {
    await open();
    await page.evaluate(() => addEventListener('ccpayment-error', ({ code, detail }) => { window.failure = { code, detail }; }));
    const detail = 'There is no product "filed-guide".';
    shop.faults = [problem(422, { code: 'unknown_product', retryable: false, detail })];
    await button().click();
    await page.getByText('The order could not be taken.').waitFor();
    await warning(/unknown_product. There is no product "filed-guide"\./);
    assert.deepEqual(await page.evaluate(() => window.failure), { code: 'unknown_product', detail });
  });

  test('takes a changed order for another', async () => {
    await open();
    shop.faults = [429];
    await button().click();
    await page.getByRole('button', { name: 'Try again' }).waitFor();
    await page.getByLabel('Copies').fill('3');
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.notEqual(shop.orders[0].key, shop.orders[1].key);
  });

  test('goes back to the form for another order', async () => {
    await buy();
    await page.getByRole('button', { name: 'Back to the order form' }).click();
    assert.ok(await button().isVisible());
    assert.equal(await state(), 'idle');
    assert.equal(new URL(page.url()).hash, '');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Pay with crypto');
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.equal(shop.bills.size, 2);
  });

  for (const [fault, meet] of [['cannot be had', (route) => route.abort()], ['do not come', () => {}]]) {
    test(`lets the form do what it would do, when its own texts ${fault}`, async () => {
      await page.route('**/messages/*', meet);
      shop.body = ELEMENT.replace('<button>Pay', '<button name="method" value="btc">Pay with Bitcoin</button><button name="method" value="xrp">Pay');
      await open();
      await button().click();
      await page.locator('#server-page').waitFor();
      assert.match(shop.orders[0].body, /&method=xrp$/, 'the button that was pressed');
      assert.equal(shop.orders.length, 1);
    });
  }

  test('speaks English when the texts of the language do not come', async () => {
    shop.attributes = 'lang="de"';
    await page.route('**/messages/de.json', () => {});
    await open();
    await button().click();
    assert.equal(await button().isDisabled(), true, 'a second click would be in vain');
    await heading('Waiting for your payment').waitFor();
    assert.equal(await page.locator('.panel').getAttribute('lang'), 'en');
    await page.getByRole('button', { name: 'Back to the order form' }).click();
    assert.equal(await button().isEnabled(), true);
  });

  test('leaves the form alone where scripts do not run', async () => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const plain = await context.newPage();
    await plain.goto(shop.origin);
    await plain.getByRole('button', { name: 'Pay with crypto' }).click();
    await plain.locator('#server-page').waitFor();
    await context.close();
  });

  test('works below any path', async () => {
    shop.prefix = '/shops/one';
    shop.body = ELEMENT.replace('/pay/bills', 'shops/one/pay/bills');
    shop.fresh = { pay: { qr: '/shops/one/pay/bills/token00000000000000000/qr.svg' } };
    await open();
    await button().click();
    await heading('Waiting for your payment').waitFor();
    await eventually('the stream is open', () => shop.streams.size === 1);
    assert.ok(shop.requests.includes('GET /shops/one/pay/bills/token00000000000000000/qr.svg'));
  });
});

describe('following', () => {
  test('shows each change without a word from the buyer', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.change(underpaid);
    await heading('Part of the amount has arrived').waitFor();
    await page.getByText('Send exactly 30.0137 USDT on TRC20.', { exact: true }).waitFor();
    assert.equal(await page.locator('code.amount').textContent(), '30.0137');
    shop.change({ ...paid });
    await heading('Paid. Thank you!').waitFor();
    assert.equal(await page.locator('.address').isVisible(), false);
    assert.equal(await page.getByRole('link', { name: 'Back to the shop' }).getAttribute('href'), '/thanks/');
    await eventually('nothing is asked any more', () => shop.streams.size === 0);
  });

  test('finds the payment when the stream breaks', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.noStream = 503;
    shop.kill();
    shop.change(paid);
    await heading('Paid. Thank you!').waitFor();
  });

  test('finds the payment when there is never a stream', async () => {
    shop.noStream = 503;
    await buy();
    shop.change(paid);
    await heading('Paid. Thank you!').waitFor();
  });

  for (const fault of ['refused', 'mute']) {
    test(`finds the payment when the stream is ${fault} again and again`, async () => {
      shop.noStream = fault;
      await buy();
      const tried = () => shop.requests.filter((r) => /events$/.test(r)).length;
      await eventually('the browser tries again by itself', () => tried() > 1);
      shop.change(paid);
      await heading('Paid. Thank you!').waitFor();
    });
  }

  test('opens the stream again after a good answer', async () => {
    shop.noStream = 503;
    await buy();
    shop.noStream = 0;
    await eventually('the stream is open', () => shop.streams.size === 1);
  });

  test('goes on when the shop is back', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.noStream = shop.noAnswer = 503;
    shop.kill();
    await page.locator('.status').filter({ hasText: LOST }).waitFor();
    shop.noStream = shop.noAnswer = 0;
    shop.change(paid);
    await heading('Paid. Thank you!').waitFor();
    assert.equal(await page.locator('.status').isVisible(), false);
  });

  test('shows no earlier bill after a later one', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    const first = structuredClone(shop.bills.get(token()));
    shop.change(underpaid);
    await heading('Part of the amount has arrived').waitFor();
    shop.push(first);
    shop.push({ ...structuredClone(shop.bills.get(token())), status: 'awaiting_payment', expires_in: 1741 });
    await page.waitForTimeout(200);
    assert.equal(await state(), 'underpaid');
  });

  test('finds the bill again after a reload', async () => {
    await buy();
    assert.equal(new URL(page.url()).hash, `#ccpayment-0=${token()}`);
    shop.change(underpaid);
    await page.reload();
    await page.getByText('Send exactly 30.0137 USDT on TRC20.', { exact: true }).waitFor();
    assert.equal(shop.orders.length, 1);
  });

  test('shows no form while a bill is remembered, until the shop answers', async () => {
    await buy();
    shop.noAnswer = shop.noStream = 503;
    let release;
    const texts = new Promise((resolve) => { release = resolve; });
    await page.route('**/messages/*', (route) => texts.then(() => route.continue()));
    await page.reload();
    await eventually('it is looked for', async () => await state() === 'loading');
    assert.equal(await button().isVisible(), false, 'not even before there is a text');
    release();
    await heading('Loading your payment…').waitFor();
    await page.locator('.status').filter({ hasText: LOST }).waitFor();
    assert.equal(await button().isVisible(), false);
    await page.evaluate(() => document.querySelector('form').requestSubmit());
    assert.equal(shop.orders.length, 1, 'nothing is ordered behind its back');
    assert.deepEqual(await page.locator('.panel button:visible, .panel a:visible').allTextContents(), ['Back to the order form']);
    await element().evaluate((node) => node.setAttribute('endpoint', '/pay/bills'));
    assert.equal(await state(), 'loading', 'no attribute makes it forget the bill');
    shop.noAnswer = shop.noStream = 0;
    await heading('Waiting for your payment').waitFor();
    assert.equal(new URL(page.url()).hash, `#ccpayment-0=${token()}`);
    assert.equal(shop.orders.length, 1);
  });

  test('leaves a remembered bill for the form when the buyer says so', async () => {
    await buy();
    shop.noAnswer = shop.noStream = 503;
    await page.reload();
    await heading('Loading your payment…').waitFor();
    await page.getByRole('button', { name: 'Back to the order form' }).click();
    assert.equal(new URL(page.url()).hash, '');
    assert.equal(await state(), 'idle');
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.equal(shop.bills.size, 2);
  });

  test('leads to the server’s page of a remembered bill when there are no texts', async () => {
    await buy();
    await page.route('**/messages/*', (route) => route.abort());
    await page.reload();
    await page.getByRole('link', { name: `/pay/bills/${token()}` }).click();
    await page.locator('#server-page').waitFor();
    assert.equal(shop.orders.length, 1);
  });

  for (const [name, other] of [['a proxy’s page', html(404)], ['JSON without a code', problem(404, { error: 'no such host' })]]) {
    test(`takes a 404 that is ${name} for a lost connection`, async () => {
      await buy();
      shop.noAnswer = other;
      shop.noStream = 404;
      await page.reload();
      await heading('Loading your payment…').waitFor();
      await page.locator('.status').filter({ hasText: LOST }).waitFor();
      shop.noAnswer = shop.noStream = 0;
      shop.change(paid);
      await heading('Paid. Thank you!').waitFor();
    });
  }

  test('says of a bill that it shows when the shop does not know it any more', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.bills.clear();
    shop.kill();
    await page.locator('.status').filter({ hasText: GONE }).waitFor();
    assert.ok(await page.locator('.address').isVisible(), 'it may be on its way to there');
  });

  test('keeps what the page has in its address', async () => {
    await open('/#section');
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.equal(new URL(page.url()).hash, `#section&ccpayment-0=${token()}`);
    await page.reload();
    await heading('Waiting for your payment').waitFor();
    await page.getByRole('button', { name: 'Back to the order form' }).click();
    assert.equal(new URL(page.url()).hash, '#section');
    assert.equal(shop.orders.length, 1);
  });

  test('remembers in the session, or not at all, where it is told so', async () => {
    shop.body = ELEMENT.replace('<ccpayment-checkout>', '<ccpayment-checkout resume="session">');
    await buy();
    assert.equal(new URL(page.url()).hash, '');
    await page.reload();
    await heading('Waiting for your payment').waitFor();

    await page.evaluate(() => sessionStorage.clear());
    shop.body = ELEMENT.replace('<ccpayment-checkout>', '<ccpayment-checkout resume="none">');
    await buy();
    await page.reload();
    assert.ok(await button().isVisible());
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  });

  test('offers the form when the bill of the address is not there, and says why', async () => {
    await open('/#ccpayment-0=AAAAAAAAAAAAAAAAAAAAAA');
    await page.getByText(GONE).waitFor();
    assert.equal(await state(), 'error');
    assert.ok(await button().isVisible());
    assert.equal(new URL(page.url()).hash, '');
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.equal(await page.getByText(GONE).isVisible(), false);
    for (const hash of ['#ccpayment-0=../../etc', '#goods']) {
      await open('/other');
      await open(`/${hash}`);
      await eventually('the form is there', async () => await state() === 'idle' && button().isVisible());
    }
    assert.ok(!shop.requests.some((r) => /etc/.test(r)));
  });

  test('comes back from the back/forward cache', async () => {
    const cached = await launch({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
    try {
      const other = await cached.newPage();
      await other.goto(shop.origin);
      await other.getByRole('button', { name: 'Pay with crypto' }).click();
      await other.getByRole('heading', { name: 'Waiting for your payment' }).waitFor();
      await other.evaluate(() => addEventListener('pageshow', (event) => { window.fromCache = event.persisted; }));
      await other.goto(`${shop.origin}/other`);
      await eventually('the stream is closed', () => shop.streams.size === 0);
      shop.change(paid);
      await other.evaluate(() => history.back());
      await eventually('the page is back', () => other.evaluate(() => window.fromCache).catch(() => undefined));
      assert.equal(await other.evaluate(() => window.fromCache), true, 'the page came from the cache');
      await other.getByRole('heading', { name: 'Paid. Thank you!' }).waitFor();
    } finally {
      await cached.close();
    }
  });

  test('asks when the tab is seen again, and stops when it is not for long', async () => {
    await page.clock.install();
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    const hide = (hidden) => page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { value, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await hide(true);
    // The silence of four minutes is one of this test; it makes the page open another.
    await page.clock.fastForward('04:00');
    await eventually('it is still followed', () => shop.streams.size === 1);
    // Nothing hidden is asked for after five minutes.
    await page.clock.fastForward('01:30');
    await eventually('the stream is closed', () => shop.streams.size === 0);
    shop.change(paid);
    await page.clock.fastForward('01:00');
    assert.equal(await state(), 'awaiting_payment');
    await hide(false);
    await heading('Paid. Thank you!').waitFor();
  });

  test('asks when the device is back online', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    await network(false);
    await page.getByText('You are offline.').first().waitFor();
    shop.streams.clear(); // what is sent now does not arrive
    shop.change(paid);
    await network(true);
    await heading('Paid. Thank you!').waitFor();
  });

  test('takes a stream that says nothing for dead', async () => {
    await page.clock.install();
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    const [stream] = shop.streams;
    shop.streams.delete(stream); // it stays open and is told nothing
    shop.change(paid);
    await page.clock.runFor(61000);
    await heading('Paid. Thank you!').waitFor();
  });

  test('has one stream for a page with two bills, and follows both', async () => {
    shop.body = `${ELEMENT}${ELEMENT.replaceAll('Pay with crypto', 'Pay for the other')}`;
    await open();
    await button().click();
    await heading('Waiting for your payment').waitFor();
    const [one] = shop.bills.keys();
    await page.getByRole('button', { name: 'Pay for the other' }).click();
    await eventually('there are two bills', async () => await heading('Waiting for your payment').count() === 2);
    const two = token();
    assert.equal(new URL(page.url()).hash, `#ccpayment-0=${one}&ccpayment-1=${two}`);
    assert.equal(shop.streams.size, 1);
    shop.change(paid, two);
    shop.change(underpaid, one);
    await heading('Paid. Thank you!').waitFor();
    await heading('Part of the amount has arrived').waitFor();
    await page.reload();
    await heading('Paid. Thank you!').waitFor();
    await heading('Part of the amount has arrived').waitFor();
  });

  test('keeps following after a move in the page, and stops after its removal', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    await page.evaluate(() => {
      const box = document.createElement('div');
      document.querySelector('main').append(box);
      box.append(document.querySelector('ccpayment-checkout'));
    });
    shop.change(underpaid);
    await heading('Part of the amount has arrived').waitFor();
    assert.equal(shop.streams.size, 1);
    await page.evaluate(() => {
      window.removed = document.querySelector('ccpayment-checkout');
      window.removed.remove();
    });
    await eventually('the stream is closed', () => shop.streams.size === 0);
    const asked = shop.requests.length;
    await page.waitForTimeout(1000);
    assert.equal(shop.requests.length, asked);
    await page.evaluate(() => document.querySelector('main').append(window.removed));
    await eventually('the stream is open again', () => shop.streams.size === 1);
    await heading('Part of the amount has arrived').waitFor();
  });

  test('leaves nothing behind', async () => {
    await buy();
    const cdp = await page.context().newCDPSession(page);
    const listeners = async () => {
      await cdp.send('HeapProfiler.collectGarbage');
      const { metrics } = await cdp.send('Performance.getMetrics');
      return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
    };
    await cdp.send('Performance.enable');
    const cycle = () => page.evaluate(async () => {
      const old = document.querySelector('ccpayment-checkout');
      const bill = old.getAttribute('bill');
      for (let i = 0; i < 10; i++) {
        const next = document.createElement('ccpayment-checkout');
        next.setAttribute('endpoint', '/pay/bills');
        next.setAttribute('resume', 'none');
        next.setAttribute('bill', bill);
        document.querySelector('main').append(next);
        await new Promise((resolve) => next.addEventListener('ccpayment-bill', resolve, { once: true }));
        next.remove();
        await new Promise((resolve) => setTimeout(resolve));
      }
    });
    await cycle();
    const first = await listeners();
    await cycle();
    await cycle();
    // The browser collects garbage in its own time.
    await eventually('as little is there as before', async () => {
      const then = await listeners();
      return ['Nodes', 'JSEventListeners'].every((name) => then[name] - first[name] < 40);
    });
  });
});

describe('time', () => {
  test('does not believe the device’s clock', async () => {
    await page.addInitScript(() => {
      const { now } = Date;
      Date.now = () => now() + 86400000;
    });
    await buy();
    const text = await page.getByRole('timer').textContent();
    assert.match(text, /^Time left: 2[89]:\d\d$/);
    assert.equal(await state(), 'awaiting_payment');
  });

  test('counts down, says what is left, and asks at the end', async () => {
    await page.clock.install();
    shop.fresh = { expires_in: 630 };
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    assert.match(await page.getByRole('timer').textContent(), /^Time left: 10:[23]\d$/);
    await page.clock.runFor(35000);
    assert.equal(await said('status'), 'Time left: 10 min');
    shop.change({ expires_in: 302 });
    await eventually('it is news', async () => /Time left: 5:0/.test(await page.getByRole('timer').textContent()));
    await page.clock.runFor(4000);
    assert.equal(await said('status'), 'Time left: 5 min');
    shop.change({ expires_in: 3 });
    await eventually('it is news', async () => /Time left: 0:0/.test(await page.getByRole('timer').textContent()));
    const bill = shop.bills.get(token());
    Object.assign(bill, expired, { pay: { ...bill.pay, qr: null } });
    await page.clock.runFor(2000);
    assert.equal(await state(), 'awaiting_payment', 'only the shop says that the time is over');
    await page.clock.runFor(4000);
    await heading('The time for this payment has ended').waitFor();
    await page.getByText('If you have already paid, do not pay again').first().waitFor();
    assert.equal(await page.locator('.address').isVisible(), false);
    assert.ok(await page.getByRole('button', { name: 'Check again' }).isVisible());
  });

  test('shows no countdown while there is more than an hour', async () => {
    shop.fresh = { expires_in: 7200 };
    await buy();
    assert.equal(await page.getByRole('timer').isVisible(), false);
    assert.ok(await page.getByText('Pay before Jan 2, 2026, 8:04 PM GMT+4').isVisible());
  });

  test('asks after a sleep', async () => {
    await page.clock.install();
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    const [stream] = shop.streams;
    shop.streams.delete(stream);
    Object.assign(shop.bills.get(token()), paid, { seq: 2, expires_in: 100 });
    await page.clock.fastForward('20:00');
    await heading('Paid. Thank you!').waitFor();
  });

  test('finds a late payment of a bill that has expired', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.change(expired);
    await heading('The time for this payment has ended').waitFor();
    shop.change({ ...paid, status: 'paid_overdue' });
    await heading('Paid. Thank you!').waitFor();
    await page.getByText('though after the time had ended').first().waitFor();
  });
});

describe('showing', () => {
  test('copies exactly what stands in the bill, and says what it copied', async () => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    shop.fresh = { pay: { memo: '884213' } };
    await buy();
    for (const [what, value] of [['address', ADDRESS], ['amount', '50.0137'], ['memo', '884213']]) {
      await page.getByRole('button', { name: `Copy ${what}` }).click();
      const done = `${what[0].toUpperCase()}${what.slice(1)} copied`;
      await page.getByRole('button', { name: done }).waitFor();
      assert.equal(await said('status'), done);
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), value);
    }
    assert.equal(await page.getByRole('button', { name: /copied/ }).count(), 1, 'only one thing is in the clipboard');
    await page.getByRole('button', { name: 'Copy memo' }).waitFor();
  });

  test('copies by hand where the clipboard is denied', async () => {
    await page.addInitScript(() => {
      Object.defineProperty(navigator, 'clipboard', { value: undefined });
      document.addEventListener('copy', () => { window.copied = String(getSelection()); });
    });
    await buy();
    await page.getByRole('button', { name: 'Copy address' }).click();
    await page.getByRole('button', { name: 'Address copied' }).waitFor();

    await page.evaluate(() => { document.execCommand = () => false; });
    await page.getByRole('button', { name: 'Copy amount' }).click();
    await page.getByText('Copying did not work. The text is selected now').first().waitFor();
    assert.equal(await page.getByRole('button', { name: 'Amount copied' }).count(), 0);
  });

  test('keeps the buyer’s selection and focus when a change comes', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    await page.getByRole('button', { name: 'Copy address' }).focus();
    const address = await page.locator('.address span').first().elementHandle();
    shop.change(underpaid);
    await heading('Part of the amount has arrived').waitFor();
    assert.equal(await page.evaluate(() => document.querySelector('ccpayment-checkout').shadowRoot.activeElement?.textContent), 'Copy address');
    assert.equal(await address.evaluate((node) => node.isConnected), true);
  });

  test('puts the memo before the address, and the code behind it', async () => {
    shop.fresh = { pay: { memo: '884213', crypto: 'XRP', network: 'XRP', address: 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh' } };
    await buy();
    const memo = await page.locator('code.memo').boundingBox();
    const address = await page.locator('.address').boundingBox();
    assert.ok(memo.y < address.y);
    const qr = page.getByAltText('QR code of the address below');
    assert.equal(await qr.isVisible(), false);
    await page.getByText('Show the QR code (it does not contain the memo)').click();
    assert.ok(await qr.isVisible());
  });

  test('links to a wallet where the shop says that wallets understand it', async () => {
    shop.fresh = { pay: { uri: 'bitcoin:bc1q?amount=1' } };
    await buy();
    assert.equal(await page.getByRole('link', { name: 'Open in wallet' }).getAttribute('href'), 'bitcoin:bc1q?amount=1');
  });

  test('leads to the gateway’s page where the shop says so', async () => {
    shop.fresh = { pay: { crypto: null, network: null, address: null, amount: null, due: null, qr: null, payment_url: 'https://gateway.example.com/pay?key=1' } };
    await buy();
    assert.equal(await page.getByRole('link', { name: 'Continue to the payment page' }).getAttribute('href'), 'https://gateway.example.com/pay?key=1');
    assert.equal(await page.locator('.address').isVisible(), false);
    assert.equal(await page.getByText('Send exactly').isVisible(), false);
    assert.ok(await page.getByText('Pay before Jan 2, 2026, 8:04 PM GMT+4').isVisible());
  });

  test('says how much of a payment was seen, where it is known', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.change({ confirming: true, payable: false });
    await heading('Payment seen, waiting for confirmation').waitFor();
    assert.match(await page.locator('.explain').textContent(), /^The network is confirming/);
    shop.change(confirming);
    await page.locator('.explain').filter({ hasText: /^20 of 50\.0137 USDT has been seen\. The network is confirming/ }).waitFor();
    await eventually('it is said', async () => /20 of 50\.0137 USDT has been seen\./.test(await said('status')));
    shop.change({ ...paid, confirming: false });
    await heading('Paid. Thank you!').waitFor();
    assert.equal(await page.locator('.explain').textContent(), 'The whole amount has arrived.');
  });

  test('moves the focus to the heading when what had it goes away', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    await page.getByRole('button', { name: 'Copy address' }).focus();
    shop.change(paid);
    await heading('Paid. Thank you!').waitFor();
    assert.equal(await page.evaluate(() => document.querySelector('ccpayment-checkout').shadowRoot.activeElement?.textContent), 'Paid. Thank you!');
  });

  test('has both ends of an address in bold, four characters each', async () => {
    await buy();
    const bold = await page.locator('.address span').evaluateAll((spans) => spans.filter((span) => getComputedStyle(span).fontWeight === '700').map((span) => span.textContent));
    assert.deepEqual(bold, ['TYWn', 'Mbyt']);
    assert.equal(await page.locator('.address').textContent(), ADDRESS);
  });

  test('shows a state of a later version by what can be done in it', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.change({ status: 'half_paid' });
    await heading('Payment').waitFor();
    assert.ok(await page.locator('.address').isVisible());
    shop.change({ status: 'frozen', payable: false, message: 'The shop looks at it.' });
    await page.getByText('The shop looks at it.').first().waitFor();
    assert.equal(await page.locator('.address').isVisible(), false);
  });

  test('takes no text for markup or script, wherever it stands', async () => {
    for (const hostile of ['"><img src=x onerror=alert(1)>', '<script>alert(1)</script>', 'javascript:alert(1)', ' javascript:alert(1)', 'https://', '{due}', '‮<b>']) {
      shop.bills.clear();
      shop.fresh = {
        reference: hostile, message: hostile, return_url: hostile, support_url: hostile, test: hostile,
        items: [{ id: hostile, name: hostile, quantity: hostile, price: hostile }],
        price: { amount: hostile, currency: hostile },
        payments: [{ id: hostile, status: hostile, amount: hostile, crypto: hostile, network: hostile, txid: hostile, not_counted: true }],
        pay: { method: hostile, crypto: hostile, network: hostile, address: hostile, memo: hostile, amount: hostile, paid: hostile, due: hostile, uri: hostile, payment_url: hostile },
      };
      await open('/other');
      await buy();
      const found = await page.evaluate(() => {
        const root = document.querySelector('ccpayment-checkout').shadowRoot;
        return {
          markup: root.querySelectorAll('script, b img, td img, code img, b b').length,
          links: [...root.querySelectorAll('a[href]')].map((a) => a.protocol),
          images: [...root.querySelectorAll('img')].map((img) => new URL(img.src).pathname),
        };
      });
      assert.equal(found.markup, 0);
      assert.ok(found.links.every((protocol) => /^https?:$/.test(protocol)), found.links.join());
      assert.deepEqual(found.images, [`/pay/bills/${token()}/qr.svg`]);
    }
  });

  test('tells the page what happens', async () => {
    await page.addInitScript(() => {
      window.events = [];
      for (const name of ['ccpayment-bill', 'ccpayment-status', 'ccpayment-error']) {
        addEventListener(name, (event) => window.events.push([name, event.bill?.status ?? null, event.previous ?? null, event.code ?? null, event.retryable ?? null]));
      }
    });
    await open();
    shop.faults = [429];
    await button().click();
    await page.getByRole('button', { name: 'Try again' }).click();
    await heading('Waiting for your payment').waitFor();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.change(paid);
    await heading('Paid. Thank you!').waitFor();
    const events = await page.evaluate(() => window.events);
    assert.deepEqual(events.filter(([name]) => name !== 'ccpayment-bill'), [
      ['ccpayment-error', null, null, 'rate_limited', true],
      ['ccpayment-status', 'awaiting_payment', 'creating', null, null],
      ['ccpayment-status', 'paid', 'awaiting_payment', null, null],
    ]);
    assert.ok(events.some(([name, status]) => name === 'ccpayment-bill' && status === 'paid'));
    assert.equal(await page.evaluate(() => document.querySelector('ccpayment-checkout').bill.status), 'paid');
  });

  test('says changes to screen readers, and what asks for something at once', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    assert.match(await said('status'), /^Waiting for your payment\. +Send exactly 50\.0137 USDT on TRC20\.$/);
    shop.change(underpaid);
    await eventually('it is said', async () => /^Part of the amount has arrived\. 20 USDT has arrived\..*Send exactly 30\.0137 USDT/.test(await said('alert')));
    shop.change({ payments: [{ id: '9', status: 'failed', amount: '30.0137', crypto: 'USDT', network: 'TRC20', txid: '' }] });
    await eventually('it is said', async () => await said('alert') === 'A payment has failed and was not counted.');
    shop.change(paid);
    await eventually('it is said', async () => /^Paid\. Thank you!/.test(await said('status')));
    assert.equal(await said('alert'), '');
  });

  test('has what is read out in the page before it says anything', async () => {
    await open();
    const regions = () => page.evaluate(() => [...document.querySelector('ccpayment-checkout').shadowRoot.querySelectorAll('[role=status], [role=alert]')]
      .map((node) => { const { known } = node; node.known = true; return [node.role, getComputedStyle(node).display !== 'none', known ?? false]; }));
    assert.deepEqual(await regions(), [['alert', true, false], ['status', true, false], ['alert', true, false]]);
    await button().click();
    await heading('Waiting for your payment').waitFor();
    assert.deepEqual(await regions(), [['alert', true, true], ['status', true, true], ['alert', true, true]]);
  });

  test('shows what the shop puts into its slots, when it is time', async () => {
    shop.body = ELEMENT.replace('</ccpayment-checkout>', '<p slot="heading">Northlight</p><p slot="paid">Your download is ready</p><p slot="footer">Questions?</p></ccpayment-checkout>');
    await buy();
    assert.ok(await page.getByText('Northlight').isVisible());
    assert.ok(await page.getByText('Questions?').isVisible());
    assert.equal(await page.getByText('Your download is ready').isVisible(), false);
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.change(paid);
    await page.getByText('Your download is ready').waitFor();
  });

  test('shows the bill of its attribute, and another when it changes', async () => {
    await buy();
    const one = token();
    shop.body = `<ccpayment-checkout endpoint="/pay/bills" bill="${one}"></ccpayment-checkout>`;
    await open('/other');
    await heading('Waiting for your payment').waitFor();
    shop.bills.set('other-bill', { ...structuredClone(shop.bills.get(one)), token: 'other-bill', reference: 'other', ...paid, pay: { ...shop.bills.get(one).pay, ...paid.pay } });
    await page.evaluate(() => document.querySelector('ccpayment-checkout').setAttribute('bill', 'other-bill'));
    await heading('Paid. Thank you!').waitFor();
    await page.evaluate(() => document.querySelector('ccpayment-checkout').setAttribute('bill', 'unknown'));
    await page.getByText(GONE).waitFor();
    assert.equal(await state(), 'error');
    assert.equal(await page.locator('.panel').isVisible(), false);
  });
});

describe('language', () => {
  test('follows the nearest ancestor, through shadow roots', async () => {
    shop.attributes = 'lang="fr"';
    shop.body = `<div lang="de-AT">${ELEMENT}</div>`;
    await open();
    await button().click();
    await heading('Wir warten auf Ihre Zahlung').waitFor();
    assert.equal(await page.locator('.panel').getAttribute('lang'), 'de');
  });

  test('follows the page into another language', async () => {
    const speak = (lang) => page.evaluate((value) => { document.documentElement.lang = value; }, lang);
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    const left = await page.getByRole('timer').textContent();
    await speak('de');
    await heading('Wir warten auf Ihre Zahlung').waitFor();
    assert.equal(await page.locator('.panel').count(), 1);
    assert.match(await page.getByRole('timer').textContent(), new RegExp(`${left.match(/\d+:/)[0]}|2[89]:`));
    shop.change(paid);
    await heading('Bezahlt. Vielen Dank!').waitFor();
    await speak('ar');
    await heading('تم الدفع. شكرًا لك!').waitFor();
    assert.equal(await page.locator('.panel').getAttribute('dir'), 'rtl');

    // While a bill is looked for, too.
    shop.noAnswer = shop.noStream = 503;
    await page.reload();
    await heading('Loading your payment…').waitFor();
    await speak('de');
    await heading('Ihre Zahlung wird geladen …').waitFor();
    assert.equal(await button().isVisible(), false);
  });

  test('runs from right to left where the language does, but for values', async () => {
    shop.attributes = 'lang="ar" dir="rtl"';
    await open();
    await button().click();
    await heading('في انتظار دفعتك').waitFor();
    assert.equal(await page.locator('.panel').getAttribute('dir'), 'rtl');
    const spans = await page.locator('.address span').all();
    const [first, second] = [await spans[0].boundingBox(), await spans[1].boundingBox()];
    assert.ok(first.x < second.x, 'addresses are read from left to right');
    assert.match(await page.locator('.deadline > span').first().textContent(), /\u2068.*\u2069$/);
    shop.change({ payments: [{ id: '1', status: 'failed', amount: '20', crypto: 'USDT', network: 'TRON (TRC20)', txid: '' }] });
    await page.locator('.payments bdi.tag').filter({ hasText: 'TRON (TRC20)' }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  });
});

describe('everybody', () => {
  test('can be used with the keyboard alone', async () => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await open();
    const focused = () => page.evaluate(() => {
      let at = document.activeElement;
      while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
      return at?.textContent ?? '';
    });
    for (let i = 0; i < 3; i++) await page.keyboard.press('Tab');
    assert.equal(await focused(), 'Pay with crypto');
    await page.keyboard.press('Enter');
    await heading('Waiting for your payment').waitFor();
    assert.equal(await focused(), 'Waiting for your payment');
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'Copy amount');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
    await page.getByRole('button', { name: 'Address copied' }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), ADDRESS);
    for (const next of ['Open the page of this payment', 'Help with this payment', 'Back to the order form']) {
      await page.keyboard.press('Tab');
      assert.equal(await focused(), next);
    }
  });

  test('fits 320 pixels, and 200 % text', async () => {
    await page.setViewportSize({ width: 320, height: 640 });
    shop.fresh = { pay: { memo: '884213907', amount: '123456789.123456789012345678', due: '123456789.123456789012345678', network: 'A network with a long name', address: '0x52908400098527886E0F7030069857D2E4169EE7' } };
    await buy();
    const fits = () => page.evaluate(() => {
      const root = document.querySelector('ccpayment-checkout').shadowRoot;
      const cut = [...root.querySelectorAll('.panel *')].filter((node) => {
        const box = node.getBoundingClientRect();
        return box.width > 0 && !node.closest('.sr') && (box.right > innerWidth + 0.5 || box.left < -0.5);
      });
      return [document.documentElement.scrollWidth <= innerWidth, cut.map((node) => node.className || node.localName)];
    });
    assert.deepEqual(await fits(), [true, []]);
    assert.equal(await page.locator('td.number').first().evaluate((cell) => getComputedStyle(cell).whiteSpace), 'nowrap');
    await page.evaluate(() => document.styleSheets.length);
    const cdp = await page.context().newCDPSession(page);
    await cdp.send('Emulation.setPageScaleFactor', { pageScaleFactor: 1 });
    // A reader's larger text, which is what rem stands for.
    await page.evaluate(() => { document.documentElement.style.fontSize = '200%'; });
    assert.deepEqual(await fits(), [true, []]);
  });

  test('has targets that a thumb hits', async () => {
    await buy();
    for (const target of await page.locator('.panel button:visible, .panel a:visible').all()) {
      const box = await target.boundingBox();
      assert.ok(box.height >= 44, await target.textContent());
    }
  });

  test('shows borders and a readable code in forced colors', async () => {
    await page.emulateMedia({ forcedColors: 'active' });
    await buy();
    const look = await page.evaluate(() => {
      const root = document.querySelector('ccpayment-checkout').shadowRoot;
      const style = (selector) => getComputedStyle(root.querySelector(selector));
      return { warning: style('p.warning').borderTopWidth, qr: style('.qr').forcedColorAdjust, ground: style('.qr').backgroundColor, button: style('button').borderTopWidth };
    });
    assert.deepEqual(look, { warning: '2px', qr: 'none', ground: 'rgb(255, 255, 255)', button: '1px' });
  });

  test('prints a receipt', async () => {
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    shop.change(paid);
    await heading('Paid. Thank you!').waitFor();
    await page.emulateMedia({ media: 'print' });
    for (const words of ['Field guide', '50.00 USD', 'reference-of-toke', '50.0137 USDT', 'TRC20', ADDRESS, '0xdef', '2026-01-02 15:04 UTC']) {
      assert.ok(await page.locator('.order').getByText(words).first().isVisible(), words);
    }
    assert.equal(await page.getByRole('link', { name: 'Back to the shop' }).isVisible(), false);
    assert.equal(await page.locator('.qr').isVisible(), false);
  });

  test('follows the page’s color scheme, or its own attribute', async () => {
    await buy();
    const ground = () => page.evaluate(() => getComputedStyle(document.querySelector('ccpayment-checkout').shadowRoot.querySelector('.panel')).backgroundColor);
    const [light, dark] = ['rgb(255, 255, 255)', 'rgb(27, 31, 36)'];
    await page.emulateMedia({ colorScheme: 'dark' });
    assert.equal(await ground(), light, 'a page that is always light has a light checkout');
    await element().evaluate((node) => node.setAttribute('theme', 'dark'));
    assert.equal(await ground(), dark);
    await element().evaluate((node) => node.setAttribute('theme', 'auto'));
    assert.equal(await ground(), dark);
    await page.emulateMedia({ colorScheme: 'light' });
    assert.equal(await ground(), light);
    await element().evaluate((node) => { node.removeAttribute('theme'); node.parentElement.style.colorScheme = 'dark'; });
    assert.equal(await ground(), dark);
  });

  test('follows its theme where it says what is wrong, too', async () => {
    await open();
    shop.faults = [502];
    await button().click();
    await page.locator('.problem').waitFor();
    const ground = () => page.locator('.problem').evaluate((node) => getComputedStyle(node).backgroundColor);
    for (const [theme, color] of [['dark', 'rgb(27, 31, 36)'], ['light', 'rgb(255, 255, 255)']]) {
      await element().evaluate((node, value) => node.setAttribute('theme', value), theme);
      assert.equal(await ground(), color);
    }
  });

  test('is taken for a form by the strictest policy', async () => {
    const violations = [];
    await page.exposeFunction('violated', (what) => violations.push(what));
    await page.addInitScript(() => addEventListener('securitypolicyviolation', (event) => window.violated(`${event.violatedDirective} ${event.blockedURI}`)));
    await buy();
    await eventually('the stream is open', () => shop.streams.size === 1);
    await page.getByRole('button', { name: 'Copy address' }).click();
    shop.change(underpaid);
    await heading('Part of the amount has arrived').waitFor();
    shop.change(paid);
    await heading('Paid. Thank you!').waitFor();
    assert.deepEqual(violations, []);
  });
});

test('defines itself once', async () => {
  shop.head = '<script type="module" src="/pay/checkout.js?again"></script>';
  await buy();
  assert.equal(FORM.includes('method="post"'), true);
});
