// Field types that zod does not have: durations, sizes, addresses, secrets; each knows its text form and its help.
// Owns: the text forms (`5s`, `16MiB`, `127.0.0.1:7400`) in both directions, and the metadata that the loader, the
// printer and the reference generator read from a schema.
// Does not own: which fields exist; each service's config.ts declares those.

import * as z from 'zod'

/** Attached with `.meta()`. `expect` completes the sentence "write …". */
export interface FieldMeta {
  readonly kind?: 'duration' | 'size' | 'address'
  readonly secret?: boolean
  readonly expect?: string
  readonly example?: string
}

/** `field(z.string().min(1), {expect: 'a cluster id', example: 'sz-edge-1'})` */
export function field<S extends z.ZodType>(schema: S, meta: FieldMeta): S {
  return schema.meta({ ...meta })
}

/** Never printed. Can also be read from a file: `<name>File` in the file, `…_FILE` in the environment. */
export function secret(): z.ZodString {
  return field(z.string().min(1, 'is empty'), {
    secret: true,
    expect: 'the secret, or better the path of a file that holds it',
  })
}

export interface Range {
  readonly min?: number
  readonly max?: number
}

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const UNITS_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
}

/** In the file `5s` or a number of milliseconds; in the program milliseconds. */
export function duration(range: Range = {}) {
  return quantity('duration', UNITS_MS, range, 'a duration such as 250ms, 5s, 10m or 24h', formatDuration)
}

/** In the file `16MiB` or a number of bytes; in the program bytes. */
export function byteSize(range: Range = {}) {
  return quantity('size', UNITS_BYTES, range, 'a size such as 64KiB, 16MiB or 2GiB', formatSize)
}

/** In the file `host:port`, `[::1]:port` or `:port` (all addresses); port 0 takes any free port. */
export function address() {
  const schema = z.union([z.string(), z.object({ host: z.string(), port: z.int() })]).transform((value, ctx) => {
    const parsed = typeof value === 'string' ? parseAddress(value) : value
    if (parsed !== undefined) return parsed
    ctx.addIssue({ code: 'custom', message: 'is not an address', input: value })
    return z.NEVER
  })
  return schema.meta({ kind: 'address', expect: 'host:port', example: '127.0.0.1:7400' } satisfies FieldMeta)
}

export function formatDuration(ms: number): string {
  return formatQuantity(ms, UNITS_MS, 'ms')
}

export function formatSize(bytes: number): string {
  return formatQuantity(bytes, UNITS_BYTES, 'B')
}

export function formatAddress({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function quantity(
  kind: 'duration' | 'size',
  units: Readonly<Record<string, number>>,
  range: Range,
  expect: string,
  format: (n: number) => string,
) {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = range
  const bounds = [
    ...(range.min === undefined ? [] : [`at least ${format(min)}`]),
    ...(range.max === undefined ? [] : [`at most ${format(max)}`]),
  ].join(' and ')
  const schema = z.union([z.number(), z.string()]).transform((value, ctx) => {
    const parsed = typeof value === 'number' ? value : parseQuantity(value, units)
    const fault =
      parsed === undefined || !Number.isFinite(parsed)
        ? `is not a ${kind}`
        : parsed < min || parsed > max
          ? 'is out of range'
          : ''
    if (fault === '' && parsed !== undefined) return parsed
    ctx.addIssue({ code: 'custom', message: fault, input: value })
    return z.NEVER
  })
  return schema.meta({ kind, expect: bounds === '' ? expect : `${expect}, ${bounds}` } satisfies FieldMeta)
}

function parseQuantity(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(text)
  if (match === null) return undefined
  const [, digits = '', unit = ''] = match
  // A bare number counts in the smallest unit, as a number in the file does.
  const factor =
    unit === '' ? 1 : Object.entries(units).find(([name]) => name.toLowerCase() === unit.toLowerCase())?.[1]
  return factor === undefined ? undefined : Math.round(Number(digits) * factor)
}

function formatQuantity(n: number, units: Readonly<Record<string, number>>, smallest: string): string {
  const fitting = Object.entries(units).findLast(([, factor]) => n >= factor && n % factor === 0)
  return fitting === undefined ? `${n}${smallest}` : `${n / fitting[1]}${fitting[0]}`
}

function parseAddress(text: string): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:\s/]*)):(\d{1,5})$/.exec(text.trim())
  if (match === null) return undefined
  const [, v6, name = '', digits] = match
  const port = Number(digits)
  if (port > 65_535) return undefined
  return { host: v6 ?? (name === '' ? '::' : name), port }
}
