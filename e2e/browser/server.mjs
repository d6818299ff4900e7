import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { eventually } from './chromium.mjs';

export const root = fileURLToPath(new URL('../../', import.meta.url));

const binary = process.env.CADDY ?? join(root, 'bin/caddy');

export const SHOP = 'http://localhost:8080';
export const SIMULATOR = 'http://localhost:8081';

/** Runs the built program with a configuration, in a directory that has what a checkout has. */
export async function serve(config, prepare = async () => {}) {
  if (!existsSync(binary)) throw new Error(`the browser tests need the program at ${binary}: make bin/caddy`);
  const dir = await mkdtemp(join(tmpdir(), 'ccpayment-browser-'));
  await cp(join(root, 'examples'), join(dir, 'examples'), { recursive: true });
  await cp(join(root, 'Caddyfile.example'), join(dir, 'Caddyfile.example'));
  await prepare(dir);
  // One buyer here orders more in a minute than a shop lets a buyer order.
  const text = await readFile(join(dir, config), 'utf8');
  await writeFile(join(dir, config), text.replace('ccpayment_bill {', 'ccpayment_bill {\n\t\t\trate_limit 1000/1s 1000'));
  const server = spawn(binary, ['run', '--adapter', 'caddyfile', '--config', config], {
    cwd: dir,
    env: { ...process.env, HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  server.stderr.on('data', (text) => { log += text; });
  const ended = new Promise((resolve) => server.on('exit', resolve));
  try {
    await eventually('the shop answers', async () => {
      if (server.exitCode !== null) throw new Error(`the server has ended:\n${log}`);
      return fetch(SHOP).then((response) => response.ok, () => false);
    });
  } catch (error) {
    server.kill();
    throw new Error(`${error.message}\n${log}`);
  }
  return {
    dir,
    log: () => log,
    async stop() {
      server.kill('SIGINT');
      const timer = setTimeout(() => server.kill('SIGKILL'), 10000);
      await ended;
      clearTimeout(timer);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Presses a button of the simulator. */
export async function simulate(reference, action, form = {}) {
  const response = await fetch(`${SIMULATOR}/sandbox/orders/${reference}/${action}`, {
    method: 'POST', headers: { Accept: 'application/json' }, body: new URLSearchParams(form),
  });
  if (!response.ok) throw new Error(`${action}: ${response.status} ${await response.text()}`);
}

/** The events that the shop's backend has, the newest first. */
export async function inbox() {
  const response = await fetch(`${SIMULATOR}/inbox`, { headers: { Accept: 'application/json' } });
  return response.json();
}
