// A page of some application's own site, with the SDK bundled as a bundler would, and a typed way to call into it.
// Owns: the site (one page, one script), the browser, and calls that end in time. Refuses: what is tested.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import type { driver } from './driver.ts'

type Driver = typeof driver
const PATIENCE_MS = 20_000
const PAGE = '<!doctype html><meta charset="utf-8"><title>deltawatch</title><script src="/driver.js"></script>'

export class Site implements AsyncDisposable {
  readonly origin: string
  readonly #close: () => Promise<void>

  private constructor(origin: string, close: () => Promise<void>) {
    this.origin = origin
    this.#close = close
  }

  static async start(): Promise<Site> {
    const bundle = await build({
      entryPoints: [fileURLToPath(new URL('driver.ts', import.meta.url))],
      bundle: true,
      minify: true,
      format: 'iife',
      platform: 'browser',
      // What today's browsers all run; a transpiled SDK is what most pages load.
      target: ['chrome120', 'firefox120', 'safari17'],
      write: false,
      logLevel: 'silent',
    })
    const script = bundle.outputFiles[0]?.text ?? ''
    const server = createServer((request, response) => {
      const [type, body] = request.url === '/driver.js' ? ['text/javascript', script] : ['text/html', PAGE]
      response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' }).end(body)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Site(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close()
  }
}

export class Tab implements AsyncDisposable {
  readonly context: BrowserContext
  readonly #page: Page
  readonly #errors: string[] = []

  private constructor(context: BrowserContext, page: Page) {
    this.context = context
    this.#page = page
    page.on('pageerror', (error) => this.#errors.push(String(error)))
  }

  static async open(browser: Browser, site: Site): Promise<Tab> {
    const context = await browser.newContext()
    const page = await context.newPage()
    const tab = new Tab(context, page)
    await page.goto(site.origin, { timeout: PATIENCE_MS })
    return tab
  }

  /** Errors nobody caught in the page. */
  get errors(): readonly string[] {
    return this.#errors
  }

  async reload(): Promise<void> {
    await this.#page.reload({ timeout: PATIENCE_MS })
  }

  /** Calls one of the driver's commands. Rejects with the command's name when it takes too long. */
  async call<K extends keyof Driver>(name: K, ...args: Parameters<Driver[K]>): Promise<Awaited<ReturnType<Driver[K]>>> {
    // An argument that is left out stays left out: JSON would make null of it.
    const list = args.map((arg) => (arg === undefined ? 'undefined' : JSON.stringify(arg))).join(',')
    const timer = Promise.withResolvers<never>()
    const timeout = setTimeout(
      () => timer.reject(new Error(`${name}(${list.slice(0, 200)}) took more than ${PATIENCE_MS} ms`)),
      PATIENCE_MS,
    )
    try {
      return (await Promise.race([
        this.#page.evaluate(`globalThis.driver.${name}(${list})`),
        timer.promise,
      ])) as Awaited<ReturnType<Driver[K]>>
    } finally {
      clearTimeout(timeout)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.context.close()
  }
}
