// An OTLP collector of a few lines: takes spans as JSON over HTTP and lets a test wait for them.
// Owns: reading what exporters really send, and being slow, refusing or silent when asked.
// Refuses: judging the spans.

import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type CollectedSpan = {
  readonly service: string
  readonly name: string
  readonly kind: number
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  /** Unix ns. */
  readonly start: bigint
  readonly end: bigint
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[]
  readonly failed: boolean
}

type RawAttribute = {
  readonly key: string
  readonly value: { readonly stringValue?: string; readonly boolValue?: boolean; readonly intValue?: number | string }
}
type RawSpan = {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes?: readonly RawAttribute[]
  readonly links?: readonly { readonly traceId: string; readonly spanId: string }[]
  readonly status?: { readonly code?: number }
}
type RawRequest = {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes?: readonly RawAttribute[] }
    readonly scopeSpans: readonly { readonly spans: readonly RawSpan[] }[]
  }[]
}

/** `accept` answers; `refuse` answers 400; `hang` never answers. */
export type CollectorMood = 'accept' | 'refuse' | 'hang'

export class Collector implements AsyncDisposable {
  readonly spans: CollectedSpan[] = []
  readonly headers: IncomingMessage['headers'][] = []
  /** Everything that was sent, as it was sent. */
  readonly bodies: string[] = []
  mood: CollectorMood = 'accept'
  readonly #server = createServer((request, response) => void this.#take(request, response))
  readonly #waiting = new Set<() => void>()

  static async start(): Promise<Collector> {
    const collector = new Collector()
    collector.#server.listen(0, '127.0.0.1')
    await once(collector.#server, 'listening')
    return collector
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Resolves with the first span that fits. */
  async span(wanted: (span: CollectedSpan) => boolean, timeoutMs = 20_000): Promise<CollectedSpan> {
    const fits = (): CollectedSpan | undefined => this.spans.find(wanted)
    await this.until(() => fits() !== undefined, timeoutMs)
    return fits() as CollectedSpan
  }

  async until(done: () => boolean, timeoutMs = 20_000): Promise<void> {
    const deadline = AbortSignal.timeout(timeoutMs)
    while (!done()) {
      if (deadline.aborted) throw new Error(`not within ${timeoutMs} ms; spans: ${this.#summary()}`)
      await new Promise<void>((resolve) => {
        const go = (): void => {
          this.#waiting.delete(go)
          deadline.removeEventListener('abort', go)
          resolve()
        }
        this.#waiting.add(go)
        deadline.addEventListener('abort', go, { once: true })
      })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #summary(): string {
    return this.spans.map(({ service, name, traceId }) => `${service} ${name} ${traceId.slice(0, 6)}`).join(', ')
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks).toString('utf8')
    this.headers.push(request.headers)
    this.bodies.push(body)
    if (this.mood === 'accept') this.spans.push(...spansOf(JSON.parse(body) as RawRequest))
    if (this.mood !== 'hang') {
      response.writeHead(this.mood === 'accept' ? 200 : 400, { 'content-type': 'application/json' }).end('{}')
    }
    for (const go of this.#waiting) go()
  }
}

function* spansOf({ resourceSpans }: RawRequest): Generator<CollectedSpan> {
  for (const { resource, scopeSpans } of resourceSpans) {
    const service = String(attributesOf(resource.attributes)['service.name'])
    for (const { spans } of scopeSpans) for (const span of spans) yield collected(service, span)
  }
}

const collected = (service: string, span: RawSpan): CollectedSpan => ({
  service,
  name: span.name,
  kind: span.kind,
  traceId: span.traceId,
  spanId: span.spanId,
  parentSpanId: span.parentSpanId === '' ? undefined : span.parentSpanId,
  start: BigInt(span.startTimeUnixNano),
  end: BigInt(span.endTimeUnixNano),
  attributes: attributesOf(span.attributes),
  links: (span.links ?? []).map(({ traceId, spanId }) => ({ traceId, spanId })),
  failed: span.status?.code === 2,
})

const attributesOf = (raw: readonly RawAttribute[] = []): Record<string, string | number | boolean> =>
  Object.fromEntries(
    raw.map(({ key, value }) => [key, value.stringValue ?? value.boolValue ?? Number(value.intValue ?? Number.NaN)]),
  )
