// @ts-check

import { beside, Follower, languageOf, placeOrder, randomKey, words } from './checkout-client.js';
import { button, make, stateOf, View } from './checkout-view.js';

/**
 * A bill as the storefront API shows it. Amounts are texts and stay texts.
 * @typedef {object} Bill
 * @property {string} token
 * @property {string} reference
 * @property {number} seq
 * @property {string} status
 * @property {boolean} confirming
 * @property {boolean} payable
 * @property {boolean} final
 * @property {string | null} message
 * @property {{id: string, name: string, quantity: number, price: string}[]} items
 * @property {{amount: string, currency: string}} price
 * @property {Pay} pay
 * @property {Payment[]} payments
 * @property {string} created_at
 * @property {string} expires_at
 * @property {number} expires_in
 * @property {string | null} return_url
 * @property {string | null} support_url
 * @property {string} self
 * @property {boolean} [test]
 */

/**
 * @typedef {object} Pay
 * @property {string | null} crypto
 * @property {string | null} network
 * @property {string | null} address
 * @property {string | null} memo
 * @property {string | null} amount
 * @property {string} paid
 * @property {string | null} due
 * @property {string | null} seen
 * @property {string | null} uri
 * @property {string | null} qr
 * @property {string} [payment_url]
 */

/**
 * @typedef {object} Payment
 * @property {string} id
 * @property {string} status
 * @property {string} amount
 * @property {string} crypto
 * @property {string} network
 * @property {string} txid
 * @property {boolean} [not_counted]
 */

/** A bill as the address of a page may name it. */
const TOKEN = /^[\w-]{22}$/;

/**
 * What the element tells the page: `ccpayment-bill` with every bill that is news,
 * `ccpayment-status` when the state changes, `ccpayment-error` when there is no bill.
 * It is for display. Goods are released by the events that the server sends.
 */
export class CheckoutEvent extends Event {
  /**
   * @param {string} name
   * @param {{bill?: Bill, previous?: string, code?: string, retryable?: boolean, detail?: string}} details
   */
  constructor(name, details) {
    super(`ccpayment-${name}`, { bubbles: true, composed: true });
    Object.assign(this, details);
  }
}

/**
 * Turns the shop's form into a checkout in its place.
 *
 * @summary A form that becomes a crypto checkout.
 * @attr bill - token of a bill that exists
 * @attr endpoint - address of the bills; default: the form's action
 * @attr theme - light, dark or auto (the reader's preference); default: the page's color-scheme
 * @attr resume - fragment (default), session or none: where a reload finds the bill
 * @attr state - set by the element: idle, loading, creating, error, confirming or the bill's status
 * @event ccpayment-bill
 * @event ccpayment-status
 * @event ccpayment-error
 * @slot - the form
 * @slot heading - above the checkout
 * @slot paid - shown once nothing is owed
 * @slot footer - below the checkout
 * @csspart panel heading state instruction warning qr amount address memo button wallet timer status problem
 */
export class CCPaymentCheckoutElement extends HTMLElement {
  static observedAttributes = ['bill', 'endpoint'];

  #root = this.attachShadow({ mode: 'open' });
  #form = make('slot');
  #sheet = make('link');
  // What is in these is read out, which only works for what was in the page before.
  #problem = make('div');
  #status = make('p', 'sr');
  #alert = make('p', 'sr');
  /** @type {View | null} */
  #view = null;
  /** @type {Follower | null} */
  #follower = null;
  /** @type {Bill | null} */
  #bill = null;
  /** @type {AbortController | null} */
  #ordering = null;
  #cart = '';
  #key = '';
  /** @type {{form: HTMLFormElement, submitter: HTMLElement | null} | null} */
  #sent = null;
  #connected = false;
  #languages = new MutationObserver(() => this.#view && this.#ready().catch(() => {}));
  /** Changes with each bill that is opened, so that an earlier one does not come back. */
  #opening = {};
  #native = false;

  constructor() {
    super();
    this.#sheet.rel = 'stylesheet';
    this.#sheet.href = beside('checkout.css');
    this.#problem.role = this.#alert.role = 'alert';
    this.#status.role = 'status';
    this.#root.append(this.#sheet, this.#form, this.#problem, this.#status, this.#alert);
    this.addEventListener('submit', (event) => this.#submit(event));
  }

  /**
   * Defines the element, unless this page has one of that name already.
   * @param {string} [tag]
   * @param {CustomElementRegistry} [registry]
   */
  static define(tag = 'ccpayment-checkout', registry = customElements) {
    if (!registry.get(tag)) registry.define(tag, this);
    return this;
  }

  /** The bill as it was last seen. */
  get bill() {
    return this.#bill;
  }

  /** Asks the shop how the bill stands. */
  async refresh() {
    await this.#follower?.refresh();
  }

  connectedCallback() {
    // Moved within the page: nothing has ended.
    if (this.#connected) return;
    this.#connected = true;
    // What a click will need is fetched now, so that nothing stands between the
    // shop's answer and the address.
    words(languageOf(this)).catch(() => {});
    for (const root of [document, this.getRootNode()]) this.#languages.observe(root, { subtree: true, attributeFilter: ['lang'] });
    const token = this.getAttribute('bill') ?? this.#remembered();
    if (token) this.#open(token);
    else this.#idle();
  }

  disconnectedCallback() {
    queueMicrotask(() => {
      if (this.isConnected || !this.#connected) return;
      this.#connected = false;
      this.#languages.disconnect();
      this.#close();
    });
  }

  /**
   * @param {string} name
   * @param {string | null} old
   * @param {string | null} value
   */
  attributeChangedCallback(name, old, value) {
    if (!this.#connected || old === value || name === 'bill' && value === (this.#bill?.token ?? null)) return;
    // Another endpoint is no reason to forget what is remembered.
    const token = this.getAttribute('bill') ?? (name === 'bill' ? null : this.#remembered());
    this.#close();
    this.#bill = null;
    if (token) this.#open(token);
    else this.#reset();
  }

  /** @param {string} state */
  #setState(state) {
    this.setAttribute('state', state);
  }

  /** The address of the bills. Modules live beside them. */
  get #endpoint() {
    const named = this.getAttribute('endpoint') ?? (this.#sent?.form ?? this.querySelector('form'))?.getAttribute('action');
    return new URL(named || beside('bills'), this.baseURI).href.replace(/\/?([?#].*)?$/, '');
  }

  /**
   * The view in the language of the page, with its style.
   * @returns {Promise<View>}
   */
  async #ready() {
    const language = languageOf(this);
    const texts = await words(language);
    if (!this.#sheet.sheet) {
      // Nobody should see the panel without its style, nor wait for it without end.
      await new Promise((resolve) => {
        this.#sheet.onload = this.#sheet.onerror = resolve;
        setTimeout(resolve, 3000);
      });
    }
    if (language !== languageOf(this)) return this.#ready();
    const old = this.#view;
    if (old?.words === texts) return old;
    old?.stop();
    old?.panel.remove();
    const view = this.#view = new View(texts, (action) => this.#act(action), this.#status, this.#alert);
    this.#root.append(view.panel);
    this.#showPanel(!!this.#form.hidden);
    if (this.#bill) {
      this.#draw(this.#bill);
      // The time that is left was that of then.
      this.refresh();
    } else if (this.#form.hidden) {
      this.#wait(/** @type {'loading'} */ (this.getAttribute('state')));
    }
    return view;
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    const form = event.target;
    if (this.#native || event.defaultPrevented || !(form instanceof HTMLFormElement) || form.getAttribute('method')?.toLowerCase() !== 'post') return;
    event.preventDefault();
    this.#order(form, event.submitter);
  }

  /**
   * Orders what the form says. While an order is under way, another click is part
   * of the same.
   * @param {HTMLFormElement} form
   * @param {HTMLElement | null} submitter
   */
  async #order(form, submitter) {
    // A bill that is remembered may be paid already. Whoever wants another says so first.
    if (this.#ordering || this.getAttribute('state') === 'loading') return;
    const ordering = new AbortController();
    this.#ordering = ordering;
    this.#sent = { form, submitter };
    this.#problem.replaceChildren();
    this.#setState('creating');
    const body = new URLSearchParams(/** @type {any} */ (new FormData(form, submitter))).toString();
    submitter?.toggleAttribute('disabled', true);
    // One key for one order: a repetition gets the bill that there is, a changed
    // order another.
    if (body !== this.#cart) {
      this.#cart = body;
      this.#key = randomKey();
    }
    const done = () => {
      submitter?.toggleAttribute('disabled', false);
      if (this.#ordering === ordering) this.#ordering = null;
    };
    const view = await this.#ready().catch(() => null);
    if (ordering.signal.aborted) return done();
    if (!view) {
      // Without its texts this element can do nothing; the form still can.
      done();
      this.#setState('idle');
      this.#native = true;
      form.requestSubmit(submitter);
      this.#native = false;
      return;
    }
    try {
      this.#wait('creating');
      view.heading.focus();
      const answer = await placeOrder(this.#endpoint, body, this.#key, ordering.signal, () => this.#view?.tell(navigator.onLine ? 'retrying' : 'offline'));
      done();
      if ('token' in answer) return this.#follow(answer.token, answer);
      if (!answer.retryable) this.#cart = '';
      await this.#fail(answer);
    } catch (error) {
      done();
      // Whoever ended it has shown something else.
      if (!ordering.signal.aborted) throw error;
    } finally {
      ordering.abort();
    }
  }

  /**
   * Goes back to the form and says why.
   * @param {import('./checkout-client.js').Refusal} refusal
   */
  async #fail({ code, retryable = false, detail = '' }) {
    const { words: t } = await this.#ready();
    this.#showPanel(false);
    const text = t[`problem.${code}`];
    // What no buyer can mend is a mistake in the page, for whoever wrote it.
    if (!text) console.warn(`ccpayment-checkout: ${code}. ${detail}`);
    const retry = button(t.retry, () => this.#sent && this.#order(this.#sent.form, this.#sent.submitter));
    const problem = make('div', 'problem', make('b', '', t['problem.title']), make('p', '', text ?? t['problem.other']), ...(retryable ? [retry] : []));
    problem.lang = t.lang;
    problem.dir = t.dir;
    this.#problem.replaceChildren(problem);
    this.#setState('error');
    (retryable ? retry : this.#sent?.submitter)?.focus();
    this.dispatchEvent(new CheckoutEvent('error', { code, retryable, detail }));
  }

  /**
   * Shows a bill that exists.
   * @param {string} token
   */
  async #open(token) {
    // The form is away from the beginning: what it would order may be paid already.
    this.#wait('loading');
    const opening = this.#opening = {};
    const view = await this.#ready().catch(() => null);
    if (this.#opening !== opening) return;
    if (view) return this.#follow(token, null);
    // The server's own page needs no texts of this element.
    const page = make('a', '', this.#addressOf(token));
    page.href = page.text;
    this.#problem.replaceChildren(page);
  }

  /**
   * @param {string} token
   * @param {Bill | null} bill
   */
  #follow(token, bill) {
    this.#follower?.stop();
    this.#follower = new Follower(this.#addressOf(token), (news) => this.#show(news), (connection) => {
      if (connection !== 'gone') return this.#view?.tell(connection);
      // What is shown stays: it may be paid, and the shop will be asked about it.
      if (this.#bill) return this.#view?.tell('problem.not_found');
      this.#reset();
      this.#fail({ code: 'not_found' });
    });
    this.#follower.start(bill);
  }

  /** @param {string} token */
  #addressOf(token) {
    return `${this.#endpoint}/${encodeURIComponent(token)}`;
  }

  /** @param {Bill} bill */
  #show(bill) {
    const previous = this.getAttribute('state') ?? 'idle';
    const first = this.#bill?.token !== bill.token;
    this.#bill = bill;
    if (first) {
      this.setAttribute('bill', bill.token);
      this.#remember(bill.token);
    }
    this.#draw(bill);
    this.#showPanel(true);
    const state = stateOf(bill);
    this.#setState(state);
    this.dispatchEvent(new CheckoutEvent('bill', { bill }));
    if (state !== previous) this.dispatchEvent(new CheckoutEvent('status', { bill, previous }));
  }

  /** @param {Bill} bill */
  #draw(bill) {
    this.#view?.show(bill, (address) => new URL(address, this.#endpoint).href);
  }

  /**
   * Shows that something is under way, in place of the form.
   * @param {'loading' | 'creating'} state
   */
  #wait(state) {
    this.#setState(state);
    this.#problem.replaceChildren();
    this.#view?.wait(state);
    this.#showPanel(true);
  }

  /** @param {boolean} shown */
  #showPanel(shown) {
    this.#form.hidden = shown;
    if (this.#view) this.#view.panel.hidden = !shown;
  }

  /** @param {import('./checkout-view.js').Action} action */
  #act(action) {
    if (action === 'ask') {
      this.refresh();
      return;
    }
    this.#reset();
    (this.#sent?.submitter ?? this.querySelector('button'))?.focus();
  }

  /** Ends whatever is under way. */
  #close() {
    this.#opening = {};
    this.#ordering?.abort();
    this.#ordering = null;
    this.#follower?.stop();
    this.#follower = null;
    this.#view?.stop();
  }

  /** Goes back to the form, for another order. */
  #reset() {
    this.#close();
    this.#bill = null;
    this.#cart = '';
    this.#remember('');
    this.removeAttribute('bill');
    this.#idle();
  }

  /** Shows the form. */
  #idle() {
    this.#problem.replaceChildren();
    this.#showPanel(false);
    this.#setState('idle');
  }

  /** Where a reload finds the bill of this element and no other's. */
  get #place() {
    return `ccpayment-${encodeURIComponent(this.id) || [...document.querySelectorAll(this.localName)].indexOf(this)}`;
  }

  /** What the address of the page has after its "#", where a shop may have put its own. */
  get #fragment() {
    return location.hash.slice(1).split('&').filter((part) => part);
  }

  #remembered() {
    const resume = this.getAttribute('resume');
    let token = null;
    try {
      token = resume === 'session' ? sessionStorage.getItem(this.#place + location.pathname)
        : resume === 'none' ? null : this.#fragment.find((part) => part.startsWith(`${this.#place}=`))?.split('=')[1];
    } catch {
      // A browser may refuse its storage.
    }
    return token && TOKEN.test(token) ? token : null;
  }

  /** @param {string} token none to forget it */
  #remember(token) {
    const resume = this.getAttribute('resume');
    if (resume === 'none') return;
    if (resume === 'session') {
      try {
        sessionStorage.setItem(this.#place + location.pathname, token);
      } catch {
        // Then a reload begins anew.
      }
      return;
    }
    const others = this.#fragment.filter((part) => !part.startsWith(`${this.#place}=`));
    if (token) others.push(`${this.#place}=${token}`);
    const address = location.href.split('#')[0] + (others.length ? `#${others.join('&')}` : '');
    if (address !== location.href) history.replaceState(history.state, '', address);
  }
}

// A browser that does not know these keeps the form, which leads to the same bill.
if ('any' in AbortSignal && CSS.supports('color', 'light-dark(red, red)')) CCPaymentCheckoutElement.define();
