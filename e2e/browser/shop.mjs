import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

const checkout = fileURLToPath(new URL('../../internal/checkout/', import.meta.url));

/** The strictest policy a shop can have. Nothing of the element may need more. */
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
  + "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const TYPES = { js: 'text/javascript', css: 'text/css', json: 'application/json' };

export const ADDRESS = 'TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt';

const QR = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path fill="#fff" d="M0 0h8v8H0z"/><path d="M2 2h4v4H2z"/></svg>';

/** A new bill, as the storefront API shows it. */
export function newBill(token, changes = {}) {
  const { pay, ...rest } = changes;
  return {
    token, reference: `reference-of-${token.slice(0, 4)}`, seq: 1, status: 'awaiting_payment', confirming: false, payable: true, final: false, message: null,
    items: [{ id: 'field-guide', name: 'Field guide', quantity: 2, price: '25.00' }],
    price: { amount: '50.00', currency: 'USD' },
    payments: [], created_at: '2026-01-02T15:04:05Z', expires_at: '2026-01-02T16:04:05Z', expires_in: 1740,
    return_url: '/thanks/', support_url: '/contact/', self: `/pay/bills/${token}`, ...rest,
    pay: {
      method: 'usdt-trc20', crypto: 'USDT', network: 'TRC20', address: ADDRESS, memo: null,
      amount: '50.0137', paid: '0', due: '50.0137', seen: null, uri: null, qr: `/pay/bills/${token}/qr.svg`, ...pay,
    },
  };
}

export const underpaid = { status: 'underpaid', pay: { paid: '20', due: '30.0137' }, payments: [{ id: '1', status: 'success', amount: '20', crypto: 'USDT', network: 'TRC20', txid: '0xabc' }] };

export const paid = { status: 'paid', payable: false, final: true, pay: { paid: '50.0137', due: '0', qr: null }, payments: [{ id: '2', status: 'success', amount: '50.0137', crypto: 'USDT', network: 'TRC20', txid: '0xdef' }] };

export const expired = { status: 'expired', payable: false, expires_in: 0, pay: { qr: null } };

/** A part is on its way. */
export const confirming = { confirming: true, payable: false, pay: { seen: '20', qr: null }, payments: [{ id: '3', status: 'processing', amount: '20', crypto: 'USDT', network: 'TRC20', txid: '0xabc' }] };

/** The form that a shop writes. */
export const FORM = `<form method="post" action="/pay/bills">
  <input type="hidden" name="item" value="field-guide">
  <label>Copies <input name="quantity" type="number" value="2" min="1" max="9"></label>
  <label>Pay with <select name="method"><option value="usdt-trc20">USDT (TRC20)</option><option value="eth">ETH</option></select></label>
  <button>Pay with crypto</button>
</form>`;

export const ELEMENT = `<ccpayment-checkout>${FORM}</ccpayment-checkout>`;

/** Some proxy's page. */
export const html = (status) => ({ status, type: 'text/html', body: '<h1>Some proxy</h1>' });

export const problem = (status, members) => ({ status, type: 'application/problem+json', body: JSON.stringify(members) });

function answer(response, { status, type, body }) {
  response.writeHead(status, { 'Content-Type': type });
  response.end(body);
}

/**
 * A shop whose every fault can be chosen: the sources of the element as they are, and
 * bills in memory.
 */
export class Shop {
  bills = new Map();

  orders = [];

  requests = [];

  streams = new Set();

  /** What the next orders meet, then each is taken: a status, 'lost', 'dropped', 'slow', or an answer. */
  faults = [];

  /** What changes every new bill. */
  fresh = {};

  /** What streams meet: nothing, a status, 'refused' for no answer, or 'mute' for one without a word. */
  noStream = 0;

  /** What questions meet: nothing, a status, or an answer. */
  noAnswer = 0;

  body = ELEMENT;

  attributes = 'lang="en"';

  head = '';

  /** Answers are held back until it is resolved, but for those to orders. */
  hold = null;

  prefix = '';

  static async open() {
    const shop = new Shop();
    shop.server = createServer((request, response) => {
      shop.serve(request, response).catch((error) => response.destroy(error));
    });
    await new Promise((resolve) => shop.server.listen(0, 'localhost', resolve));
    shop.origin = `http://localhost:${shop.server.address().port}`;
    return shop;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }

  page() {
    return `<!doctype html><html ${this.attributes}><head><meta charset="utf-8"><title>A shop</title><meta name="viewport" content="width=device-width">
      <link rel="icon" href="/favicon.svg"><script type="module" src="${this.prefix}/pay/checkout.js"></script>${this.head}</head><body><main><h1>A shop</h1>${this.body}</main></body></html>`;
  }

  async serve(request, response) {
    const { pathname } = new URL(request.url, this.origin);
    this.requests.push(`${request.method} ${pathname}`);
    const at = pathname.startsWith(this.prefix) ? pathname.slice(this.prefix.length) : pathname;
    const json = (status, body, headers = {}) => {
      response.writeHead(status, { 'Content-Type': status < 400 ? 'application/json' : 'application/problem+json', 'Cache-Control': 'no-store', ...headers });
      response.end(JSON.stringify(body));
    };
    if (this.hold && request.method === 'GET' && pathname !== '/') await this.hold;
    const asset = at.match(/^\/pay\/(checkout[a-z-]*\.(js|css)|messages\/[\w-]+\.(json))$/);
    if (asset) {
      // The real server finds the nearest language in the same way.
      const file = asset[2] ? `web/${asset[1]}` : asset[1];
      const content = await readFile(checkout + file).catch(() => readFile(checkout + file.replace(/-\w+\.json$/, '.json')));
      response.writeHead(200, { 'Content-Type': TYPES[asset[2] ?? asset[3]] });
      response.end(content);
      return;
    }
    if (at === '/pay/bills' && request.method === 'POST') {
      await this.order(request, response, json);
      return;
    }
    const [, token, part] = at.match(/^\/pay\/bills\/([^/]+)(\/.*)?$/) ?? [];
    const bill = this.bills.get(token);
    if (token && !bill) {
      json(404, { code: 'not_found', retryable: false });
    } else if (part === '/qr.svg') {
      response.writeHead(200, { 'Content-Type': 'image/svg+xml' });
      response.end(QR);
    } else if (part === '/events') {
      if (this.noStream === 'refused') {
        request.socket.destroy();
        return;
      }
      if (this.noStream === 'mute') {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.end('retry: 1000\n\n');
        return;
      }
      if (this.noStream) {
        response.writeHead(this.noStream);
        response.end();
        return;
      }
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store, no-transform' });
      response.write('retry: 3000\n\n');
      const stream = { token, response };
      this.streams.add(stream);
      response.on('close', () => this.streams.delete(stream));
      this.push(bill);
    } else if (token) {
      if (typeof this.noAnswer === 'object') answer(response, this.noAnswer);
      else if (this.noAnswer) json(this.noAnswer, { code: 'store_unavailable', retryable: true });
      else if (request.headers.accept?.includes('json')) json(200, bill);
      else this.html(response, '<!doctype html><title>Bill</title><p id="server-page">The server’s own page');
    } else if (pathname === '/' || pathname === '/other') {
      this.html(response, this.page());
    } else if (pathname === '/favicon.svg') {
      response.writeHead(200, { 'Content-Type': 'image/svg+xml' });
      response.end(QR);
    } else {
      response.writeHead(404);
      response.end();
    }
  }

  html(response, page) {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Content-Security-Policy': POLICY });
    response.end(page);
  }

  async order(request, response, json) {
    let body = '';
    for await (const chunk of request) body += chunk;
    const key = request.headers['idempotency-key'];
    this.orders.push({ key, body });
    const fault = this.faults.shift();
    if (fault === 'slow') await new Promise((resolve) => setTimeout(resolve, 1500));
    if (fault === 'dropped') {
      request.socket.destroy();
      return;
    }
    if (typeof fault === 'object') {
      answer(response, fault);
      return;
    }
    if (fault === 502) {
      json(502, { code: 'gateway_refused', retryable: false });
      return;
    }
    if (fault === 503) {
      response.writeHead(503, { 'Content-Type': 'text/html' });
      response.end('<h1>Some proxy</h1>');
      return;
    }
    if (fault === 429) {
      json(429, { code: 'rate_limited', retryable: true }, { 'Retry-After': '7' });
      return;
    }
    // The same key gives the same bill.
    let bill = [...this.bills.values()].find((other) => key && other.key === key);
    if (!bill) {
      const token = `token${String(this.bills.size).padStart(17, '0')}`;
      bill = newBill(token, this.fresh);
      Object.defineProperty(bill, 'key', { value: key });
      this.bills.set(token, bill);
    }
    if (fault === 'lost') {
      request.socket.destroy();
      return;
    }
    if (request.headers.accept?.includes('json')) {
      json(201, bill);
      return;
    }
    response.writeHead(303, { Location: `/pay/bills/${bill.token}` });
    response.end();
  }

  /** Something happened to a bill: every page that follows it is told. */
  change(changes, token = [...this.bills.keys()].at(-1)) {
    const bill = this.bills.get(token);
    const { pay, ...rest } = changes;
    Object.assign(bill, { seq: bill.seq + 1 }, rest);
    Object.assign(bill.pay, pay);
    this.push(bill);
  }

  push(bill) {
    for (const { token, response } of this.streams) {
      if (token === bill.token) response.write(`event: bill\nid: ${bill.seq}\ndata: ${JSON.stringify(bill)}\n\n`);
    }
  }

  /** Breaks every stream, as a restart does. */
  kill() {
    for (const { response } of this.streams) response.destroy();
  }
}
