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
    // Measured over 200,000 events: without --optimize-for-size 10 MB more anonymous memory and a few per cent less CPU;
    // 64/1 without it costs a quarter more CPU; 256/4 costs 9 MB more and saves none.
    nodeOptions: ['--max-old-space-size=128', '--max-semi-space-size=4', '--optimize-for-size'],
  },
  { name: 'deltawatch-gateway', entry: 'gateway/main.ts', nodeOptions: [] },
  { name: 'deltawatch', entry: 'client/cli/main.ts', nodeOptions: [] },
]
