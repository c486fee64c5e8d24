// One HTTP request of the doctor: bounded in time and size, with the moments that judge a clock.
// Owns: TLS files, deadlines, the bound on what is read. Refuses: redirects, retries, kept connections.

import { request as overHttp } from 'node:http'
import { request as overHttps } from 'node:https'
import type { DatedAnswer } from './finding.ts'

export type Tls = { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer }
export type Ask = {
  readonly timeoutMs: number
  readonly tls?: Tls
  readonly headers?: Readonly<Record<string, string>>
  /** Sent by POST as JSON. */
  readonly body?: object
}
export type Answer = DatedAnswer & { readonly status: number; readonly text: string }

const MAX_BYTES = 256 * 1024

export function ask(url: URL, { timeoutMs, tls = {}, headers = {}, body }: Ask): Promise<Answer> {
  const send = url.protocol === 'https:' ? overHttps : overHttp
  const options = { ...tls, agent: false, method: body === undefined ? 'GET' : 'POST', headers }
  return new Promise((resolve, reject) => {
    const askedAt = Date.now()
    const request = send(url, options, (response) => {
      const answeredAt = Date.now()
      const { statusCode: status = 0, headers } = response
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > MAX_BYTES) request.destroy(new RangeError(`more than ${MAX_BYTES} bytes`))
        else chunks.push(chunk)
      })
      response.on('end', () => {
        clearTimeout(limit)
        resolve({ status, date: headers.date, askedAt, answeredAt, text: Buffer.concat(chunks).toString('utf8') })
      })
      response.on('error', fail)
    })
    // The whole exchange, not each silence: a server that drips bytes is as good as none.
    const limit = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
    const fail = (error: Error): void => {
      clearTimeout(limit)
      reject(error)
    }
    request.on('error', fail)
    request.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

/** The object in an answer; empty for anything else. */
export function fieldsOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}
