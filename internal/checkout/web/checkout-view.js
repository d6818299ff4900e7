// @ts-check

/** @typedef {import('./checkout.js').Bill} Bill */
/** @typedef {import('./checkout-client.js').Words} Words */
/** What the buyer can do in the panel. @typedef {'ask' | 'again'} Action */
/** What can be copied. @typedef {'memo' | 'amount' | 'address'} Copied */

/** The countdown is shown in the last hour; before, the deadline says enough. */
const COUNTDOWN = 3600;

/** Minutes before the end at which screen readers say how much time is left. */
const SPOKEN = [10, 5, 1];

/** What a link may lead to. Everything else, like a script, is no link. */
const SCHEMES = /^(https?|mailto|bitcoin|litecoin|bitcoincash|dogecoin):$/;

/**
 * Makes an element whose class is also its part, so that a shop can style it. Texts
 * are nodes: nothing here can become markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {string} [look]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(name, look, ...children) {
  const element = document.createElement(name);
  if (look) {
    element.className = look;
    element.setAttribute('part', look);
  }
  element.append(...children);
  return element;
}

/**
 * An element for what no translation may touch and no direction turn around.
 * @template {'code' | 'bdi' | 'b'} K
 * @param {K} name
 * @param {string} [look]
 * @param {string} [text]
 */
function verbatim(name, look, text = '') {
  const element = make(name, look, text);
  element.dir = 'ltr';
  element.translate = false;
  return element;
}

/**
 * @param {string} text
 * @param {(event: MouseEvent) => void} act
 * @param {string} [look]
 */
export function button(text, act, look = 'button') {
  const element = make('button', look, text);
  element.type = 'button';
  element.addEventListener('click', act);
  return element;
}

/**
 * Sets a text without touching it if it is the same, which would lose a selection.
 * @param {Node} node
 * @param {string | null | undefined} text
 */
function say(node, text) {
  if (node.textContent !== (text ?? '')) node.textContent = text ?? '';
}

/**
 * Lets a link lead somewhere. One that leads nowhere is not shown, nor is a text
 * that says nothing.
 * @param {HTMLAnchorElement} link
 * @param {string | null | undefined} address
 */
function lead(link, address) {
  link.href = address || '';
  if (!address || !SCHEMES.test(link.protocol)) link.removeAttribute('href');
}

/** The same time for print and for talking with the shop, from the text as it is.
 * @param {string} iso */
const utc = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;

/** Whether nothing is owed any more, for what is shown and nothing else.
 * @param {Bill} bill */
const isPaid = (bill) => /^(over)?paid(_overdue)?$/.test(bill.status);

/** The state of a bill in one word.
 * @param {Bill} bill */
export const stateOf = (bill) => (bill.confirming && !isPaid(bill) ? 'confirming' : bill.status);

/** The panel of a bill. Its nodes are made once; bills change their texts only. */
export class View {
  heading = make('h2', 'heading');
  #explain = make('p', 'explain');
  #failed = make('p', 'alert');
  #header = make('header', 'state', this.heading, this.#explain, this.#failed);
  #test = make('p', 'test');
  #link = make('p', 'status');
  #paid = make('slot');
  #instruction = make('p', 'instruction');
  #warning = make('p', 'warning');
  #memoBox = make('div', 'memo-box');
  #qr = make('img', 'qr');
  #gate = make('details', 'gate');
  #scan = make('div', 'scan', this.#gate, this.#qr);
  memo = verbatim('code', 'value memo');
  amount = verbatim('code', 'value amount');
  address = verbatim('code', 'value address');
  #crypto = verbatim('bdi');
  #network = verbatim('bdi');
  #facts = make('dl', 'facts');
  wallet = make('a', 'button wallet');
  #exchange = make('p', 'hint');
  #deadline = make('span');
  #deadlineUTC = make('span', 'print');
  #timer = make('span', 'hint timer');
  #pay = make('section', 'pay', this.#instruction, this.#warning, this.#memoBox, this.#scan, this.#facts, this.wallet, this.#exchange,
    make('p', 'deadline', this.#deadline, this.#deadlineUTC, this.#timer));
  hosted = make('a', 'button');
  return = make('a', 'button');
  receipt = make('a');
  support = make('a');
  #actions = make('div', 'actions', this.hosted, this.return);
  #items = make('tbody');
  #total = make('td', 'number');
  #paymentsTitle = make('h3');
  #payments = make('ul', 'payments');
  #paper = make('p', 'print');
  #reference = verbatim('code');
  #created = make('time');
  #createdUTC = make('span', 'print');
  #order = make('section', 'order');
  #footer = make('slot', 'footer');
  panel = make('section', 'panel', make('slot'), this.#test, this.#header, this.#paid, this.#link, this.#pay, this.#actions, this.#order, this.#footer);

  /** @type {Bill | null} */
  #bill = null;
  #shownAt = 0;
  #spoken = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticking;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #quiet;
  #restore = () => {};
  #said = '';
  #act;
  #ask;
  #again;

  /**
   * @param {Words} words
   * @param {(action: Action) => void} act
   * @param {HTMLElement} status is read out in its turn
   * @param {HTMLElement} alert is read out at once
   */
  constructor(words, act, status, alert) {
    this.words = words;
    this.#act = act;
    this.status = status;
    this.alert = alert;
    const { panel } = this;
    panel.lang = words.lang;
    panel.dir = words.dir;
    panel.setAttribute('aria-labelledby', this.heading.id = 'heading');
    panel.querySelectorAll('slot').forEach((slot, i) => (slot.name = ['heading', 'paid', 'footer'][i]));
    this.heading.tabIndex = -1;
    this.#timer.role = 'timer';
    this.#pay.setAttribute('aria-label', words.title);
    this.#qr.width = this.#qr.height = 240;

    for (const name of /** @type {const} */ (['wallet', 'hosted', 'return', 'receipt', 'support'])) say(this[name], words[name]);
    say(this.#paymentsTitle, words.payments);
    this.#gate.append(make('summary', '', words['qr.gate']));
    this.#memoBox.append(make('h3', '', words.memo), make('p', '', this.memo), this.#copier('memo'), make('p', 'warning', words['memo.warning']));
    const due = verbatim('bdi');
    due.append(this.amount, ' ', this.#crypto);
    this.#facts.append(
      make('div', '', make('dt', '', words.amount), make('dd', '', due), make('dd', '', this.#copier('amount'))),
      make('div', '', make('dt', '', words.address, ' · ', this.#network), make('dd', '', this.address), make('dd', '', this.#copier('address')),
        make('dd', 'hint compare', words.compare)));
    this.#actions.append(
      this.#ask = button(words.check, () => act('ask'), 'button quiet'),
      this.receipt, this.support,
      this.#again = button(words.again, () => act('again'), 'button plain'));
    const sum = make('th', '', words.total);
    sum.scope = 'row';
    this.#order.append(make('h3', '', words.order), make('table', '', this.#items, make('tfoot', '', make('tr', '', sum, this.#total))),
      this.#paymentsTitle, this.#payments, this.#paper,
      make('p', 'reference', words.reference, ': ', this.#reference, make('br'), this.#created, this.#createdUTC));
  }

  /**
   * Shows that the bill is being made or looked for. One that is looked for can be
   * left for the form, which is nobody's way out of one that is being made.
   * @param {'creating' | 'loading'} state
   */
  wait(state) {
    const text = this.words[`heading.${state}`];
    this.#bill = null;
    this.panel.className = `panel waiting ${state}`;
    this.#header.className = 'state open';
    this.#again.hidden = false;
    say(this.heading, text);
    say(this.#explain, '');
    this.tell('');
    this.announce('status', text);
  }

  /**
   * Shows a bill. All there is to decide was decided by the server.
   * @param {Bill} bill
   * @param {(address: string) => string} resolve makes an address of the shop whole
   */
  show(bill, resolve) {
    const t = this.words;
    const { pay } = bill;
    const { due, address, memo } = pay;
    const before = this.#bill;
    const state = stateOf(bill);
    const paid = isPaid(bill);
    const payHere = bill.payable && !!due && !!address;
    const hosted = bill.payable && !payHere && pay.payment_url;
    const { activeElement } = /** @type {ShadowRoot} */ (this.panel.getRootNode());
    this.#bill = bill;
    this.#shownAt = performance.now();

    this.panel.className = 'panel';
    this.#header.className = `state ${paid ? 'good' : bill.payable || bill.confirming ? 'open' : 'over'}`;
    // A state that this version does not know is shown by what can be done in it.
    say(this.heading, t[`heading.${state}`] ?? t.title);
    const explain = t[`explain.${state}`] ?? bill.message ?? '';
    // How much is not known of every payment that is on its way.
    this.#write(this.#explain, state === 'confirming' && pay.seen ? `${t.seen} ${explain}` : explain, bill);
    say(this.#failed, failures(bill) ? t.failed : '');
    say(this.#test, bill.test ? t.test : '');
    this.#paid.hidden = !paid;

    this.#pay.hidden = !payHere && !hosted;
    this.#pay.className = payHere ? 'pay' : 'pay hosted';
    say(this.#deadline, t.deadline.replace('{time}', this.#time(bill.expires_at)));
    say(this.#deadlineUTC, utc(bill.expires_at));
    if (payHere) {
      this.#write(this.#instruction, t.instruction, bill);
      this.#write(this.#warning, t.warning, bill);
      this.#write(this.#exchange, t.exchange, bill);
      // A QR code that lacks the memo must not be scanned before the memo is read.
      this.#memoBox.hidden = this.#gate.hidden = !memo;
      say(this.memo, memo);
      const place = memo ? this.#gate : this.#scan;
      if (this.#qr.parentNode !== place) place.append(this.#qr);
      this.#qr.alt = t[pay.uri ? 'qr.alt_uri' : 'qr.alt'];
      // The content changes with what is due, the address of the image does not.
      const image = pay.qr ? `${resolve(pay.qr)}?due=${due}` : '';
      this.#scan.hidden = !image;
      if (this.#qr.getAttribute('src') !== image) this.#qr.src = image;
      say(this.amount, due);
      say(this.#crypto, pay.crypto);
      say(this.#network, pay.network);
      if (this.address.textContent !== address) {
        this.address.replaceChildren(...(address.match(/.{1,4}$|.{1,4}(?=.{4})/gs) ?? []).map((group) => make('span', '', group)));
      }
    }
    lead(this.wallet, pay.uri);
    lead(this.hosted, hosted || null);
    lead(this.return, paid ? bill.return_url : null);
    lead(this.support, bill.support_url);
    lead(this.receipt, resolve(bill.self));
    this.#ask.hidden = bill.final || payHere;
    this.#again.hidden = bill.confirming || bill.payable && bill.payments.length > 0;

    this.#list(bill, before);
    this.#count();
    // Whoever was where now nothing is begins again at what has changed.
    if (activeElement?.checkVisibility() === false) this.heading.focus();
    const said = `${this.heading.textContent}. ${this.#explain.textContent} ${payHere ? this.#instruction.textContent : ''}`;
    if (before && failures(bill) > failures(before)) {
      this.announce('alert', t.failed);
    } else if (!before || said !== this.#said) {
      // What asks for something interrupts, the rest waits.
      this.announce(/^underpaid/.test(state) ? 'alert' : 'status', said);
    }
    this.#said = said;
  }

  /**
   * Writes a text with places for values, like {amount}. Each value is a node of its
   * own; as long as the text is the same, only values change.
   * @param {HTMLElement} element
   * @param {string} text
   * @param {Bill} bill
   */
  #write(element, text, { pay }) {
    const parts = text.split(/\{(\w+)\}/);
    if (element.childNodes.length !== parts.length || parts.some((part, i) => i % 2 === 0 && element.childNodes[i].textContent !== part)) {
      element.replaceChildren(...parts.map((part, i) => (i % 2 ? verbatim('b') : document.createTextNode(part))));
    }
    parts.forEach((name, i) => {
      if (i % 2) say(element.childNodes[i], pay[/** @type {'due'} */ (name)]);
    });
  }

  /**
   * Writes what was bought and paid, if it is not what stands there.
   * @param {Bill} bill
   * @param {Bill | null} before
   */
  #list(bill, before) {
    const t = this.words;
    const { pay } = bill;
    const { currency, amount } = bill.price;
    if (bill.reference !== before?.reference) {
      this.#items.replaceChildren(...bill.items.map((item) => make('tr', '',
        make('td', '', make('bdi', '', item.name)),
        make('td', 'number', verbatim('bdi', '', `${item.quantity} × ${item.price} ${currency}`)))));
      this.#total.replaceChildren(verbatim('bdi', '', `${amount} ${currency}`));
      // A receipt on paper says where the money went; on the screen it would ask for more.
      this.#paper.replaceChildren(...[[t.amount, `${pay.amount} ${pay.crypto} · ${pay.network}`], [t.address, pay.address], [t.memo, pay.memo]]
        .flatMap(([name, value]) => (value && pay.address ? [`${name}: `, verbatim('bdi', '', value), make('br')] : [])));
      say(this.#reference, bill.reference);
      say(this.#created, this.#time(bill.created_at));
      say(this.#createdUTC, utc(bill.created_at));
    }
    const { payments } = bill;
    this.#paymentsTitle.hidden = this.#payments.hidden = !payments.length;
    if (JSON.stringify(payments) === JSON.stringify(before?.payments)) return;
    this.#payments.replaceChildren(...payments.map((payment) => make('li', '',
      verbatim('bdi', 'number', `${payment.amount} ${payment.crypto}`), ' ',
      make('bdi', 'tag', payment.network), ' ',
      make('span', 'tag', t[`status.${payment.status}`] ?? payment.status), ' ',
      ...(payment.not_counted ? [make('span', 'tag', t.other)] : []),
      ...(payment.txid ? [make('br'), verbatim('code', 'txid', payment.txid)] : []))));
  }

  /**
   * Says something to screen readers. It is taken away later, so that nobody meets
   * it again out of place.
   * @param {'status' | 'alert'} how
   * @param {string} text
   */
  announce(how, text) {
    clearTimeout(this.#quiet);
    this.status.textContent = this.alert.textContent = '';
    this[how].textContent = text;
    this.#quiet = setTimeout(() => {
      this.status.textContent = this.alert.textContent = '';
    }, 10000);
  }

  /**
   * Tells how it stands with the connection, or what did not work.
   * @param {string} key of the text; none for nothing
   */
  tell(key) {
    const text = this.words[key] ?? '';
    if (text && text !== this.#link.textContent) this.announce('status', text);
    say(this.#link, text);
  }

  /** Shows the countdown and asks at its end. The device's clock has no part in it. */
  #count() {
    clearInterval(this.#ticking);
    const bill = this.#bill;
    if (!bill?.payable) return;
    let last = this.#shownAt;
    let asked = 0;
    this.#spoken = bill.expires_in;
    const tick = () => {
      const now = performance.now();
      // A page that nobody sees ticks rarely, and asks when it is seen.
      if (document.hidden) last = now;
      const left = bill.expires_in - (now - this.#shownAt) / 1000;
      const seconds = Math.max(0, Math.ceil(left));
      this.#timer.hidden = seconds > COUNTDOWN;
      say(this.#timer, this.words.timer.replace('{time}', `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`));
      for (const minutes of SPOKEN) {
        if (left <= minutes * 60 && this.#spoken > minutes * 60) this.announce('status', this.words.minutes.replace('{minutes}', `${minutes}`));
      }
      this.#spoken = left;
      // A second of grace, since the server cuts off parts of seconds. A gap between
      // two ticks is a sleep, after which the bill may be another.
      if (!document.hidden && (left < -1 && now - asked > 5000 || now - last > 15000)) {
        asked = now;
        this.#act('ask');
      }
      last = now;
    };
    this.#ticking = setInterval(tick, 1000);
    tick();
  }

  /**
   * A button that copies a value as it stands in the bill, and says what it copied.
   * @param {Copied} what
   */
  #copier(what) {
    const words = this.words;
    const copy = button(words[`copy.${what}`], async () => {
      this.#restore();
      try {
        await navigator.clipboard.writeText(this[what].textContent ?? '');
      } catch {
        // Not allowed, or plain HTTP. What is selected a person can copy by hand.
        getSelection()?.selectAllChildren(this[what]);
        if (!document.execCommand('copy')) return this.tell('copy.failed');
      }
      const done = words[`copied.${what}`];
      this.announce('status', done);
      say(copy, done);
      copy.classList.add('done');
      const timer = setTimeout(() => this.#restore(), 4000);
      this.#restore = () => {
        clearTimeout(timer);
        say(copy, words[`copy.${what}`]);
        copy.classList.remove('done');
        this.#restore = () => {};
      };
    }, 'button copy');
    return copy;
  }

  /**
   * A time where the buyer is, with its zone.
   * @param {string} iso
   */
  #time(iso) {
    return new Date(iso).toLocaleString(this.words.lang, {
      year: 'numeric', month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit', timeZoneName: 'short', numberingSystem: 'latn',
    });
  }

  stop() {
    clearInterval(this.#ticking);
    clearTimeout(this.#quiet);
    this.#restore();
  }
}

/** @param {Bill} bill */
const failures = (bill) => bill.payments.filter((payment) => payment.status === 'failed').length;
