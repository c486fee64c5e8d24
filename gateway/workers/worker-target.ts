// The operator's view of all workers at once, asked of each over its link.
// Owns: fanning out and joining. Refuses: failing as a whole because one worker does not answer.

import type { Revocation } from '../auth/revocations.ts'
import type { AdminTarget, ClusterInfo, SessionFilter, SessionInfo, TraceLine } from '../admin/target.ts'
import type { Methods, ProcessLink } from './process-link.ts'

export class WorkersTarget implements AdminTarget {
  readonly #links: () => readonly ProcessLink[]
  #traces = 0

  constructor(links: () => readonly ProcessLink[]) {
    this.#links = links
  }

  async sessions(filter: SessionFilter): Promise<readonly SessionInfo[]> {
    return (await this.#ask<readonly SessionInfo[]>('admin.sessions', filter)).flat().slice(0, filter.limit)
  }

  async clusters(): Promise<readonly ClusterInfo[]> {
    return (await this.#ask<readonly ClusterInfo[]>('admin.clusters')).flat()
  }

  async disconnect(filter: { readonly id?: string; readonly subject?: string }): Promise<number> {
    return sum(await this.#ask<number>('admin.disconnect', filter))
  }

  /** Every worker shuts out; the first one also writes the shared list, where there is one. */
  async revoke(revocation: Revocation): Promise<number> {
    const links = this.#links()
    const answers = links.map((link, i) => link.call('admin.revoke', revocation, i === 0).catch(() => 0))
    return sum((await Promise.all(answers)) as number[])
  }

  async trace(subject: string, onLine: (line: TraceLine) => void, signal: AbortSignal): Promise<void> {
    const name = `trace.${++this.#traces}`
    const links = this.#links()
    const listening = links.map((link) => link.onNote(name, (line) => onLine(line as TraceLine)))
    await Promise.all(links.map((link) => link.call('admin.trace', name, subject).catch(() => undefined)))
    if (!signal.aborted)
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    await Promise.all(links.map((link) => link.call('admin.untrace', name).catch(() => undefined)))
    for (const one of listening) one[Symbol.dispose]()
  }

  async #ask<T>(method: string, ...args: readonly unknown[]): Promise<T[]> {
    const answers = await Promise.allSettled(this.#links().map((link) => link.call(method, ...args)))
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value as T] : []))
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)

/** What the primary may call in a worker. */
export function workerMethods(
  target: () => AdminTarget | undefined,
  persist: (revocation: Revocation) => Promise<void>,
  metrics: () => Promise<string>,
  note: (name: string, value: unknown) => void,
): Methods {
  const traces = new Map<string, AbortController>()
  return {
    metrics,
    'admin.sessions': (filter: SessionFilter) => target()?.sessions(filter) ?? [],
    'admin.clusters': () => target()?.clusters() ?? [],
    'admin.disconnect': (filter: { id?: string; subject?: string }) => target()?.disconnect(filter) ?? 0,
    'admin.revoke': async (revocation: Revocation, first: boolean) => {
      if (first) await persist(revocation)
      return target()?.revoke(revocation) ?? 0
    },
    'admin.trace': (name: string, subject: string) => {
      const stop = new AbortController()
      traces.set(name, stop)
      void target()?.trace(subject, (line) => note(name, line), stop.signal)
    },
    'admin.untrace': (name: string) => {
      traces.get(name)?.abort()
      traces.delete(name)
    },
  }
}
