// The programs that are shipped as single executables. Owns names, entries and the heap each may use; nothing else.

export interface Program {
  readonly name: string
  readonly entry: string
  /** Baked into the executable. Without limits V8 grows to whatever the host offers, which an edge node cannot spare. */
  readonly nodeOptions: readonly string[]
}

export const PROGRAMS: readonly Program[] = [
  {
    name: 'deltawatch-agent',
    entry: 'edge-agent/main.ts',
    nodeOptions: ['--max-old-space-size=256', '--max-semi-space-size=4'],
  },
  { name: 'deltawatch-gateway', entry: 'gateway/main.ts', nodeOptions: [] },
  { name: 'deltawatch', entry: 'client/cli/main.ts', nodeOptions: [] },
]
