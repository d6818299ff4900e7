import { existsSync } from 'node:fs';

import { chromium } from 'playwright-core';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

const args = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Starts the system's Chromium. A missing browser is a failure, never a skip. */
export async function launch(options = {}) {
  if (!existsSync(executablePath)) {
    throw new Error(`the browser tests need Chromium at ${executablePath}; on Debian: apt-get install chromium`);
  }
  return chromium.launch({ executablePath, args, ...options });
}

/** Keeps what a page complains about. The network's own complaints are the tests'. */
export function complaints(page) {
  const list = [];
  page.on('pageerror', (error) => list.push(String(error.stack ?? error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !/Failed to load resource|net::ERR/.test(message.text())) list.push(message.text());
  });
  return list;
}

/** Waits until something holds. */
export async function eventually(what, ok, limit = 15000) {
  const end = performance.now() + limit;
  for (;;) {
    if (await ok()) return;
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
