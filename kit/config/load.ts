// From a command line and an environment to a configuration, or to a text and an exit code.
// Owns: the options every service has (--config, --print-config, --check-config, --version, --help), `config check`
// and `config print` as their readable twins, and the order: command line, sources, schema.
// Does not own: the process. Nothing here reads process.env, prints or exits (process.ts does).
// Exit codes: 0 asked-for output; 2 the command line is wrong; 78 the configuration is wrong (EX_CONFIG of sysexits).

import { readFileSync } from 'node:fs'
import { Command, CommanderError, Option } from 'commander'
import type * as z from 'zod'
import { VERSION } from '../version.ts'
import type { ConfigDefinition } from './definition.ts'
import { ConfigError } from './errors.ts'
import { gather } from './layers.ts'
import { formatValue, printConfig } from './print.ts'
import { validate } from './validate.ts'

export interface Surroundings {
  /** Without interpreter and script. */
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly readFile?: (path: string) => string
}

export type Loaded<T> =
  | {
      readonly kind: 'run'
      readonly config: T
      readonly origins: ReadonlyMap<string, string>
      readonly warnings: readonly string[]
    }
  | { readonly kind: 'exit'; readonly code: 0 | 2 | 78; readonly stdout: string; readonly stderr: string }

export function loadConfig<S extends z.ZodObject>(
  definition: ConfigDefinition<S>,
  from: Surroundings,
): Loaded<z.output<S>> {
  const line = readCommandLine(definition, from.args)
  if (line.kind === 'exit') return line
  const file = line.file ?? nonEmpty(from.env['DELTAWATCH_CONFIG'])
  const readFile = from.readFile ?? ((path: string) => readFileSync(path, 'utf8'))
  const gathered = gather(definition.schema, definition.shape, { file, env: from.env, flags: line.flags, readFile })
  const flagOf = (name: string): string | undefined => definition.flags[name]
  const judged = validate(definition, gathered, flagOf)
  const warnings = gathered.warnings.map((w) => `warning: ${w}\n`).join('')
  if (!judged.ok) {
    const n = judged.problems.length
    const head = `${definition.program}: the configuration has ${n} problem${n === 1 ? '' : 's'}\n`
    return exit(78, '', `${warnings}${head}${judged.problems.map((p) => `  ${p}\n`).join('')}`)
  }
  if (line.print) return exit(0, printConfig(definition, judged.config, gathered.origins), warnings)
  if (line.check) return exit(0, `${definition.program}: the configuration is valid\n`, warnings)
  return { kind: 'run', config: judged.config, origins: gathered.origins, warnings: gathered.warnings }
}

/** For a reload and for tests: the configuration, or a ConfigError with every problem. */
export function loadConfigOrThrow<S extends z.ZodObject>(
  definition: ConfigDefinition<S>,
  from: Surroundings,
): z.output<S> {
  const loaded = loadConfig(definition, from)
  if (loaded.kind === 'run') return loaded.config
  throw new ConfigError(
    loaded.stderr
      .trim()
      .split('\n')
      .slice(1)
      .map((problem) => problem.trim()),
  )
}

interface Line {
  readonly kind: 'line'
  readonly file: string | undefined
  readonly print: boolean
  readonly check: boolean
  readonly flags: ReadonlyMap<string, { readonly flag: string; readonly texts: readonly string[] }>
}

type Exit = Extract<Loaded<never>, { kind: 'exit' }>

const TWINS: Readonly<Record<string, string>> = { check: '--check-config', print: '--print-config' }

function readCommandLine(definition: ConfigDefinition<z.ZodObject>, args: readonly string[]): Line | Exit {
  const out = { stdout: '', stderr: '' }
  const { command, flags } = buildCommand(definition)
  command.exitOverride().configureOutput({
    writeOut: (text) => {
      out.stdout += text
    },
    writeErr: (text) => {
      out.stderr += text
    },
  })
  const [first, second = '', ...rest] = args
  const twin = first === 'config' ? TWINS[second] : undefined
  try {
    command.parse(twin === undefined ? args : [twin, ...rest], { from: 'user' })
  } catch (e) {
    if (!(e instanceof CommanderError)) throw e
    return exit(e.exitCode === 0 ? 0 : 2, out.stdout, out.stderr)
  }
  const {
    config,
    printConfig: print,
    checkConfig: check,
  } = command.opts<{ config?: string; printConfig?: boolean; checkConfig?: boolean }>()
  return { kind: 'line', file: config, print: print === true, check: check === true, flags }
}

function buildCommand(definition: ConfigDefinition<z.ZodObject>) {
  const flags = new Map<string, { flag: string; texts: string[] }>()
  const command = new Command(definition.program)
    .description(definition.summary)
    .allowExcessArguments(false)
    .showHelpAfterError('run with --help to see every flag')
    .version(`${definition.program} ${VERSION} (node ${process.versions.node})`, '--version', 'print the version')
    .option('--config <file>', 'YAML file with the configuration (env DELTAWATCH_CONFIG)')
    .option('--print-config', 'print the configuration that would be used, without secrets, and exit')
    .option('--check-config', 'check the configuration and exit')
  for (const [name, spec] of Object.entries(definition.flags)) {
    const option = new Option(spec, helpFor(definition, name))
    const flag = option.long ?? option.short ?? spec
    option.argParser((text: string) => {
      const seen = flags.get(name) ?? { flag, texts: [] }
      seen.texts.push(text)
      flags.set(name, seen)
      return text
    })
    // A flag without an argument means true; commander calls no parser for it.
    if (!option.required) option.preset('true')
    command.addOption(option)
  }
  const fileNote = `Every field can also stand in the file or the environment; precedence: file, environment, flags.`
  const examples = (definition.examples ?? []).map((e) => `  ${e}`).join('\n')
  command.addHelpText('after', `\n${fileNote}${examples === '' ? '' : `\n\nExamples:\n${examples}`}`)
  return { command, flags }
}

function helpFor(definition: ConfigDefinition<z.ZodObject>, name: string): string {
  const field = definition.shape.fields.find((f) => f.name === name || `${f.name}File` === name)
  if (field === undefined) return ''
  const secretFile = field.secret ? `file holding ${field.description}` : field.description
  const facts = [
    ...(field.choices.length === 0 ? [] : [field.choices.join(' | ')]),
    ...(field.required ? ['required'] : []),
    ...(field.defaultValue === undefined || field.secret
      ? []
      : [`default ${plain(formatValue(field, field.defaultValue))}`]),
    `env ${field.env}${field.secret ? '_FILE' : ''}`,
  ]
  return `${secretFile} (${facts.join('; ')})`
}

function plain(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}

function exit(code: Exit['code'], stdout: string, stderr: string): Exit {
  return { kind: 'exit', code, stdout, stderr }
}
