// node --import "<this file>" program.ts: the program's wall clock jumps at every SIGUSR2.
// Owns: Date in that process. The kernel's clock cannot be moved by a test, and no library to fake it can be assumed; what a
// jump changes for a program is what Date says, while monotonic time and timers go on, and that is what happens here.

const HOUR_MS = 3_600_000
/** Each jump from the true time, in turn. */
const JUMPS_MS = [HOUR_MS, -2 * HOUR_MS, 30 * 24 * HOUR_MS, -5_000, -365 * 24 * HOUR_MS, 0]

const TrueDate = Date
let offset = 0
let jumps = 0

class JumpingDate extends TrueDate {
  constructor(...parts: readonly unknown[]) {
    if (parts.length === 0) super(TrueDate.now() + offset)
    else super(...(parts as [number]))
  }
  static override now(): number {
    return TrueDate.now() + offset
  }
}

globalThis.Date = JumpingDate as DateConstructor
process.on('SIGUSR2', () => {
  offset = JUMPS_MS[jumps % JUMPS_MS.length] ?? 0
  jumps += 1
})
