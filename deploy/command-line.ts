// The command lines of the programs a developer runs: benchmarks, fault runs, soaks.
// Owns: --help (exit 0), a wrong flag told with the usage (exit 2), and the usage text itself, made from the options.
// Does not own: what the values mean. The product's own programs have commander and kit/config instead.

import { type ParseArgsOptionDescriptor, parseArgs } from 'node:util'

export interface Purpose {
  /** `npm run bench:agent --` */
  readonly use: string
  readonly about: string
}

type Described = Readonly<Record<string, ParseArgsOptionDescriptor & { readonly about: string }>>

const WRONG = 2

/** The values given, or their defaults. Ends the process for --help and for what it does not know. */
export function optionsOf<const O extends Described>(purpose: Purpose, options: O, args = process.argv.slice(2)) {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(usageText(purpose, options))
    process.exit(0)
  }
  try {
    return parseArgs({ args, allowNegative: true, options }).values
  } catch (error) {
    if (!(error instanceof TypeError && 'code' in error)) throw error
    process.stderr.write(`${error.message}\n\n${usageText(purpose, options)}`)
    process.exit(WRONG)
  }
}

export function usageText({ use, about }: Purpose, options: Described): string {
  const rows = Object.entries(options).map(([name, { type, default: usual, about: means, multiple }]) => {
    const flag = type === 'boolean' ? `--${name}` : `--${name} <value>${multiple === true ? ' …' : ''}`
    return [flag, typeof usual === 'string' ? `${means} (${usual})` : means] as const
  })
  const width = Math.max(8, ...rows.map(([flag]) => flag.length)) + 2
  const lines = [...rows, ['--help', 'this text'] as const].map(([flag, means]) => `  ${flag.padEnd(width)}${means}`)
  return `${use} [options]\n${about}\n\n${lines.join('\n')}\n`
}
