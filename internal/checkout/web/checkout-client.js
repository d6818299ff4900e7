// @ts-check

/** @typedef {import('./checkout.js').Bill} Bill */
/** @typedef {'live' | 'retrying' | 'offline' | 'gone'} Connection */
/** Why an order was not taken, as the storefront API says it.
 * @typedef {{code: string, retryable?: boolean, detail?: string}} Refusal */
/** The texts of one language by key. @typedef {Record<string, string>} Words */

/**
 * The address of a file beside this one, in the same version.
 * @param {string} name
 */
export function beside(name) {
  const here = new URL(import.meta.url);
  return new URL(name + here.search, here).href;
}

/** @type {Map<string, Promise<Words>>} */
const loading = new Map();

/** How long texts may take, in ms. A buyer has clicked and waits for them. */
const TEXTS_LIMIT = 3000;

/**
 * Loads the texts of a language, once for the whole page. The server knows which
 * languages there are and sends the nearest. English is better than no checkout.
 * @param {string} language
 * @returns {Promise<Words>}
 */
export function words(language) {
  let texts = loading.get(language);
  if (!texts) {
    texts = fetch(beside(`messages/${encodeURIComponent(language)}.json`), { signal: AbortSignal.timeout(TEXTS_LIMIT) })
      .then((response) => (response.ok ? response.json() : Promise.reject(response)))
      .catch((error) => {
        // A failure is not remembered, so that the next one who asks tries again.
        loading.delete(language);
        if (language === 'en') throw error;
        return words('en');
      });
    loading.set(language, texts);
  }
  return texts;
}

/**
 * The language that the nearest ancestor names, through shadow roots too.
 * @param {Element} element
 * @returns {string}
 */
export function languageOf(element) {
  const named = element.closest('[lang]');
  const root = element.getRootNode();
  if (named) return named.getAttribute('lang') || 'en';
  return root instanceof ShadowRoot ? languageOf(root.host) : navigator.language;
}

/** The waits before an order whose answer was lost is sent again, in ms. */
const AGAIN = [1000, 3000];

/** How long the answer to an order may take, in ms. The gateway is asked in between. */
const ORDER_LIMIT = 40000;

/** 128 random bits. Unlike randomUUID this is there on plain HTTP too. */
export function randomKey() {
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
}

/**
 * Sends an order. When no answer comes, nobody knows whether a bill was made, so
 * the order is sent again with the same key, which cannot make a second one.
 * @param {string} address
 * @param {string} body
 * @param {string} key
 * @param {AbortSignal} signal
 * @param {() => void} lost is called when no answer came
 * @returns {Promise<Bill | Refusal>}
 */
export async function placeOrder(address, body, key, signal, lost) {
  for (const wait of [...AGAIN, 0]) {
    try {
      const response = await fetch(address, {
        method: 'POST',
        headers: { Accept: 'application/json', 'Content-Type': 'application/x-www-form-urlencoded', 'Idempotency-Key': key },
        body,
        signal: AbortSignal.any([signal, AbortSignal.timeout(ORDER_LIMIT)]),
      });
      const { status } = response;
      // What is not JSON is some proxy's page, not the shop's answer. It is no news of
      // the order, unless it says that the request itself is at fault.
      const answer = await response.json().catch(() => null);
      if (answer?.token || answer?.code) return answer;
      if (status === 429) return { code: 'rate_limited', retryable: true };
      if (status >= 400 && status < 500) return { code: 'unreadable', detail: `${address} answers ${status}, and not as JSON with a code.` };
    } catch {
      signal.throwIfAborted();
    }
    lost();
    if (wait) await pause(wait);
  }
  return { code: 'offline', retryable: true };
}

/**
 * Waits, and on a device that believes to be offline for longer, unless it is back
 * before. Such a belief can be wrong, so it decides about nothing else.
 * @param {number} ms
 */
function pause(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, navigator.onLine ? ms : ms + 4000);
    addEventListener('online', resolve, { once: true });
  });
}

/** Seconds between questions while there is no stream. */
const WAITS = [5, 10, 30];

/** A stream that says nothing for so long is dead: the server beats every 25 s. */
const SILENCE = 60000;

/** How long an answer may take, in ms. */
const LIMIT = 15000;

/** A page that nobody looks at stops after this time, and asks when it is seen again. */
const HIDDEN = 300000;

/**
 * The one follower of the page that has the stream. Browsers open six connections to
 * a server at most, and the shop's own pages need some; the others ask in turns.
 * @type {Follower | null}
 */
let streaming = null;

/**
 * Follows a bill: with a stream where there is one, by asking where there is none.
 * Both bring whole bills, so that nothing is lost when one takes over.
 */
export class Follower {
  #address;
  #show;
  #tell;
  #stop = new AbortController();
  /** @type {Bill | null} */
  #last = null;
  /** @type {EventSource | null} */
  #source = null;
  /** @type {AbortController | null} */
  #asking = null;
  #asked = 0;
  #failed = 0;
  #asleep = false;
  /** Whether the stream has said something. One that is only open may never do. */
  #live = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #next;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #silence;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #away;

  /**
   * @param {string} address of the bill
   * @param {(bill: Bill) => void} show is given every bill that is news
   * @param {(connection: Connection) => void} tell
   */
  constructor(address, show, tell) {
    this.#address = address;
    this.#show = show;
    this.#tell = tell;
  }

  /** @param {Bill | null} bill as it is known already */
  start(bill) {
    const { signal } = this.#stop;
    const on = (/** @type {EventTarget} */ target, /** @type {string} */ name, /** @type {(event: any) => void} */ act) =>
      target.addEventListener(name, act, { signal });
    // Whether it is true shows when the shop is asked.
    on(window, 'online', () => this.#wake());
    on(window, 'offline', () => this.refresh());
    on(window, 'pagehide', () => this.#sleep());
    // A page from the back/forward cache believes that its stream is open.
    on(window, 'pageshow', (event) => event.persisted && this.#wake());
    on(document, 'resume', () => this.#wake());
    on(document, 'visibilitychange', () => {
      clearTimeout(this.#away);
      if (document.hidden) this.#away = setTimeout(() => this.#sleep(), HIDDEN);
      else this.#wake();
    });
    if (!bill) {
      this.refresh();
      return;
    }
    this.#take(bill);
    this.#open();
    this.#plan();
  }

  stop() {
    this.#stop.abort();
    this.#sleep();
    clearTimeout(this.#away);
  }

  get #ended() {
    return this.#stop.signal.aborted;
  }

  /** Asks for the bill now. */
  async refresh() {
    if (this.#ended) return;
    this.#asking?.abort();
    clearTimeout(this.#next);
    const asking = this.#asking = new AbortController();
    let after = 0;
    try {
      const response = await fetch(this.#address, {
        headers: { Accept: 'application/json' },
        cache: 'no-store',
        signal: AbortSignal.any([asking.signal, AbortSignal.timeout(LIMIT)]),
      });
      after = Number(response.headers.get('Retry-After')) || 0;
      const bill = await response.json();
      if (this.#asking !== asking || this.#ended) return;
      // Any proxy on the way can answer 404; only the shop knows that there is no bill.
      if (response.status === 404 && bill.code === 'not_found') {
        this.stop();
        this.#tell('gone');
        return;
      }
      if (!response.ok) throw response;
      this.#asked++;
      this.#failed = 0;
      this.#tell('live');
      this.#take(bill);
      this.#open();
    } catch {
      // Another question has taken the place of this one.
      if (this.#asking !== asking || this.#ended) return;
      this.#failed++;
      this.#tell(navigator.onLine ? 'retrying' : 'offline');
    }
    this.#asking = null;
    this.#plan(after);
  }

  /** @param {Bill} bill */
  #take(bill) {
    const last = this.#last;
    // Stream and answers can cross. Time runs one way, so of two bills with one
    // number that with less time left is the later.
    if (last && (bill.seq < last.seq || bill.seq === last.seq && bill.expires_in > last.expires_in)) return;
    this.#last = bill;
    if (bill.final) this.stop();
    this.#show(bill);
  }

  /** Opens the stream unless it is open or on its way. */
  #open() {
    if (this.#ended || this.#asleep || streaming) return;
    streaming = this;
    const source = new EventSource(`${this.#address}/events`);
    this.#source = source;
    const alive = () => {
      if (this.#source !== source) return;
      this.#live = true;
      this.#asked = this.#failed = 0;
      clearTimeout(this.#next);
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => {
        this.#close();
        this.refresh();
      }, SILENCE);
      this.#tell('live');
    };
    source.addEventListener('beat', alive);
    source.addEventListener('bill', (event) => {
      alive();
      if (this.#source === source) this.#take(JSON.parse(event.data));
    });
    source.addEventListener('error', () => {
      if (this.#source !== source) return;
      const before = this.#live;
      this.#live = false;
      clearTimeout(this.#silence);
      // The browser tries again by itself, but never after a status like 503.
      if (source.readyState === EventSource.CLOSED) this.#close();
      // What is planned stays planned. Errors come more often than questions, and would
      // put off each of them.
      if (before) this.#plan();
    });
  }

  #close() {
    this.#live = false;
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
    if (streaming === this) streaming = null;
  }

  /**
   * Plans the next question, which is needed only while there is no stream.
   * @param {number} [atLeast] in seconds
   */
  #plan(atLeast = 0) {
    clearTimeout(this.#next);
    if (this.#ended || this.#asleep || this.#asking || this.#live) return;
    const slow = this.#last && !this.#last.payable && !this.#last.confirming;
    const step = slow ? 2 : this.#failed > 2 ? 2 : Math.min(this.#asked, 1);
    // Many pages lose their stream at once when a server restarts.
    const seconds = Math.max(atLeast, WAITS[step] * (0.8 + 0.4 * Math.random()));
    this.#next = setTimeout(() => {
      if (slow && document.hidden) return; // becoming visible asks
      this.refresh();
    }, seconds * 1000);
  }

  #sleep() {
    this.#asleep = true;
    clearTimeout(this.#next);
    this.#asking?.abort();
    this.#asking = null;
    this.#close();
  }

  #wake() {
    if (this.#ended) return;
    this.#asleep = false;
    this.#asked = this.#failed = 0;
    this.#close();
    this.refresh();
  }
}
