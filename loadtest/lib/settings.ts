// What a load script is told by its runner.
// Owns: reading and checking the environment k6 was started with; every script takes its settings from here.
// Refuses: defaults that hide a wrong start: without clusters there is nothing to measure.

import exec from 'k6/execution'

declare const __ENV: Readonly<Record<string, string | undefined>>

export type Site = { readonly cluster: string; readonly etcd: string }
export type Settings = {
  /** `ws://host:port` of the gateway. */
  readonly gateway: string
  readonly sites: readonly Site[]
  /** Names this run's keys, so that runs on one stack do not meet. */
  readonly run: string
  readonly sockets: number
  readonly ratePerSecond: number
  readonly seconds: number
  readonly summary: string
}

const positive = (name: string, fallback: number): number => {
  const text = __ENV[name]
  const value = text === undefined ? fallback : Number(text)
  if (!(value > 0)) throw new Error(`${name}=${text}: give a positive number`)
  return value
}

/** CLUSTERS is `sz-edge-1=http://127.0.0.1:7501,…`: cluster id and the etcd endpoint to write to. */
export function readSettings(): Settings {
  const sites = (__ENV.CLUSTERS ?? '').split(',').flatMap((pair): Site[] => {
    const at = pair.indexOf('=')
    return at > 0 ? [{ cluster: pair.slice(0, at), etcd: pair.slice(at + 1) }] : []
  })
  if (sites.length === 0)
    throw new Error('CLUSTERS is empty: give cluster=http://etcd pairs; npm run loadtest:smoke does')
  return {
    gateway: __ENV.GATEWAY ?? 'ws://127.0.0.1:7400',
    sites,
    run: __ENV.RUN ?? 'manual',
    sockets: positive('SOCKETS', 20),
    ratePerSecond: positive('RATE', 60),
    seconds: positive('SECONDS', 20),
    summary: __ENV.SUMMARY ?? 'summary.json',
  }
}

/** Stops the whole test; for faults that make every further figure meaningless. */
export const abort = (reason: string): never => exec.test.abort(reason) as never
