// Stands in for a shop: it answers the element's requests with bills in every state.
// Nothing of this belongs on a page that sells.

const query = new URLSearchParams(location.search);
document.documentElement.lang = query.get('lang') ?? 'en';

const tron = { crypto: 'USDT', network: 'TRON (TRC20)', address: 'TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt', memo: null, uri: null, qr: '/gallery/qr-tron.svg' };
const bitcoinURI = 'bitcoin:bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq?amount=0.00077871';
const bitcoin = { crypto: 'BTC', network: 'Bitcoin', address: 'bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq', memo: null, uri: bitcoinURI, qr: '/gallery/qr-bitcoin.svg' };
const xrp = { crypto: 'XRP', network: 'XRP Ledger', address: 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh', memo: '884213907', uri: null, qr: '/gallery/qr-xrp.svg' };

const payment = (amount, status, more) => ({
  id: `${amount}-${status}`, status, amount, crypto: 'USDT', network: 'TRON (TRC20)', ...more,
  txid: 'c9e1a7f05d3b42688f0e6a1c7d94b3e25f8a6c0d1b7e4f3920a5d8c6b1e7f402',
});

/** A bill. It is final here, so that the element does not ask for another. */
function bill(status, pay, more) {
  return {
    token: 'gallery', reference: 'wG1n0pIUS7OK2cXvJ4Y9eA', seq: 3, status, confirming: false, payable: false, final: true, message: null,
    items: [{ id: 'field-guide', name: 'Field guide', quantity: 2, price: '25.00' }],
    price: { amount: '50.00', currency: 'USD' },
    payments: [], created_at: '2026-01-02T15:04:05Z', expires_at: '2026-01-02T16:04:05Z', expires_in: 1740,
    return_url: '/thanks/', support_url: '/contact/', self: '/gallery/', ...more,
    pay: { method: 'usdt-trc20', amount: '50.0137', paid: '0', due: '50.0137', ...tron, ...pay },
  };
}

const open = { payable: true };
const late = { expires_in: 0 };
const states = {
  'form': null,
  'creating': 'creating',
  'loading': bill('awaiting_payment', {}, open),
  'awaiting': bill('awaiting_payment', {}, open),
  'awaiting, with a wallet link': bill('awaiting_payment', { amount: '0.00077871', due: '0.00077871', ...bitcoin }, open),
  'awaiting, with a memo': bill('awaiting_payment', { amount: '79.12', due: '79.12', ...xrp }, open),
  'awaiting, a test': bill('awaiting_payment', {}, { ...open, test: true }),
  'awaiting, hosted': bill('awaiting_payment', { crypto: null, network: null, address: null, amount: null, due: null, qr: null, payment_url: '/gallery/' }, open),
  'awaiting, a payment failed': bill('awaiting_payment', {}, { ...open, payments: [payment('50.0137', 'failed')] }),
  'confirming': bill('awaiting_payment', { seen: '50.0137' }, { confirming: true, payments: [payment('50.0137', 'processing')] }),
  'confirming a part': bill('awaiting_payment', { seen: '20' }, { confirming: true, payments: [payment('20', 'processing')] }),
  'confirming, the amount not known yet': bill('awaiting_payment', {}, { confirming: true }),
  'underpaid': bill('underpaid', { paid: '20', due: '30.0137' }, { ...open, payments: [payment('20', 'success')] }),
  'paid': bill('paid', { paid: '50.0137', due: '0' }, { payments: [payment('20', 'success'), payment('30.0137', 'success')] }),
  'overpaid': bill('overpaid', { paid: '60', due: '0' }, { payments: [payment('60', 'success'), payment('5', 'success', { crypto: 'USDC', network: 'BEP20', not_counted: true })] }),
  'expired': bill('expired', {}, late),
  'underpaid, overdue': bill('underpaid_overdue', { paid: '20', due: '30.0137' }, { ...late, payments: [payment('20', 'success')] }),
  'paid, overdue': bill('paid_overdue', { paid: '50.0137', due: '0' }, { ...late, payments: [payment('50.0137', 'success')] }),
  'overpaid, overdue': bill('overpaid_overdue', { paid: '60', due: '0' }, { ...late, payments: [payment('60', 'success')] }),
  'refused by the gateway': 'gateway_refused',
  'the gateway is down': 'gateway_unreachable',
  'connection lost': bill('awaiting_payment', {}, { ...open, final: false }),
};

const json = (status, body) => new Response(JSON.stringify(body), { status, headers: { 'Content-Type': 'application/json' } });
const names = Object.keys(states);
const asked = new Map();
const { fetch } = window;
window.fetch = async (address, init) => {
  const { pathname } = new URL(address, location.href);
  const [, place, id] = pathname.match(/^\/gallery\/(bills|orders-\d+)\/?(.*)$/) ?? [];
  if (place === 'bills') {
    const name = names[Number.parseInt(id, 10)];
    asked.set(id, (asked.get(id) ?? 0) + 1);
    if (name === 'loading') return new Promise(() => {});
    if (name === 'connection lost' && asked.get(id) > 1) throw new TypeError('no connection');
    return json(200, { ...states[name], token: id });
  }
  if (place) {
    const state = states[names[Number.parseInt(place.slice(7), 10)]];
    if (state === 'creating') return new Promise(() => {});
    return json(502, { code: state, retryable: state === 'gateway_unreachable' });
  }
  return fetch(address, init);
};
window.EventSource = class extends EventTarget {
  static CLOSED = 2;

  readyState = 2;

  close() {}
};

/** One state on one ground. */
function show(i, ground) {
  const state = states[names[i]];
  const element = document.createElement('ccpayment-checkout');
  element.setAttribute('resume', 'none');
  const form = document.createElement('form');
  form.method = 'post';
  form.action = `/gallery/orders-${i}`;
  const button = document.createElement('button');
  button.append('Pay with crypto');
  form.append(button);
  element.append(form);
  if (typeof state === 'object' && state) {
    element.setAttribute('endpoint', '/gallery/bills');
    element.setAttribute('bill', `${i}-${ground}`);
    if (!state.final) element.addEventListener('ccpayment-bill', () => setTimeout(() => element.refresh()), { once: true });
  } else if (state) {
    customElements.whenDefined('ccpayment-checkout').then(() => form.requestSubmit(button));
  }
  const box = document.createElement('div');
  box.className = ground;
  box.append(element);
  return box;
}

const main = document.getElementById('states');
const only = query.get('state');
const grounds = query.get('ground')?.split(',') ?? ['light', 'dark'];
names.forEach((name, i) => {
  if (only !== null && only !== name) return;
  const article = document.createElement('article');
  const heading = document.createElement('h2');
  heading.append(name);
  article.append(heading, ...grounds.map((ground) => show(i, ground)));
  main.append(article);
});
if (only === null) {
  const article = document.createElement('article');
  article.className = 'own';
  const heading = document.createElement('h2');
  heading.append('a shop’s own look');
  article.append(heading, ...grounds.map((ground) => show(names.indexOf('underpaid'), ground)));
  main.append(article);
}
