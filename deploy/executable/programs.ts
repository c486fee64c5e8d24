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
    // Measured over 200,000 events, anonymous memory: 67 MiB; 128/2 takes 73 MiB at the same CPU; 64/1 costs a quarter more CPU.
    // --optimize-for-size saved 7 MiB more and started in 940 ms, this in 540, at other loads: not compared side by side.
    nodeOptions: ['--max-old-space-size=96', '--max-semi-space-size=2'],
  },
  { name: 'deltawatch-gateway', entry: 'gateway/main.ts', nodeOptions: [] },
  { name: 'deltawatch', entry: 'client/cli/main.ts', nodeOptions: [] },
]
