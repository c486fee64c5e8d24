// `deltawatch config`: both services' configuration judged and shown without starting them.
// Owns: which service a file is for, the form of the answer, exit code 78 (EX_CONFIG) for a bad configuration.
// Refuses: schemas and sentences of its own; the services' declarations and kit/config have them. Secrets are never shown.

import { type Command, Option } from 'commander'
import type * as z from 'zod'
import { agentConfig } from '#agent/config.ts'
import { gatewayConfig } from '#gateway/config.ts'
import type { ConfigDefinition } from '#kit/config/definition.ts'
import { loadConfig } from '#kit/config/load.ts'
import { printConfig, redact } from '#kit/config/print.ts'
import { environment } from '#kit/config/process.ts'
import { json, processTerminal, runCommand, type Terminal, wantsJson, withExamples } from './hub/terminal.ts'

const EX_CONFIG = 78
const SERVICES = ['agent', 'gateway'] as const
type Service = (typeof SERVICES)[number]
type Env = Readonly<Record<string, string | undefined>>
type Options = { readonly service: Service; readonly env?: boolean; readonly json?: boolean }

export type Judged = {
  readonly valid: boolean
  readonly service: Service
  readonly file: string | undefined
  /** One sentence each: field, value, what is wrong, what to write. */
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}
/** `text` is the YAML that would give the same configuration; `tree` the same as data. Undefined when not valid. */
export type Shown = { readonly text: string; readonly tree: Readonly<Record<string, unknown>> }

export function judge(service: Service, file: string | undefined, env: Env): { judged: Judged; shown?: Shown } {
  if (service === 'agent') return judgeWith(agentConfig, service, file, env)
  return judgeWith(gatewayConfig, service, file, env)
}

function judgeWith<S extends z.ZodObject>(
  definition: ConfigDefinition<S>,
  service: Service,
  file: string | undefined,
  env: Env,
): { judged: Judged; shown?: Shown } {
  const loaded = loadConfig(definition, { args: file === undefined ? [] : ['--config', file], env })
  if (loaded.kind === 'exit') {
    const lines = loaded.stderr.split('\n').map((line) => line.trim())
    const warnings = lines.flatMap((line) => (line.startsWith('warning: ') ? [line.slice('warning: '.length)] : []))
    // The first line that is no warning counts the problems; the ones behind it are the problems.
    const problems = lines.filter((line) => line !== '' && !line.startsWith('warning: ')).slice(1)
    return { judged: { valid: false, service, file, problems, warnings } }
  }
  return {
    judged: { valid: true, service, file, problems: [], warnings: loaded.warnings },
    shown: {
      text: printConfig(definition, loaded.config, loaded.origins),
      tree: redact(definition.schema, loaded.config),
    },
  }
}

export function registerConfigCommands(program: Command, terminal: Terminal = processTerminal()): void {
  const config = program.command('config').description("check and show the agent's or the gateway's configuration")
  const service = (): Option =>
    new Option('--service <service>', 'whose configuration it is').choices(SERVICES).makeOptionMandatory()

  withExamples(
    config
      .command('check <file>')
      .description('say everything that is wrong with a configuration file; exit code 78 when something is')
      .addOption(service())
      .option('--env', 'apply DELTAWATCH_* variables over the file, as the service would')
      .option('--json', 'JSON, also on a terminal')
      .action((file: string, options: Options) =>
        runCommand(terminal, 'config check', async () => check(terminal, file, options)),
      ),
    [
      'deltawatch config check gateway.yaml --service gateway',
      'deltawatch config check agent.yaml --service agent --env',
    ],
  )
  withExamples(
    config
      .command('print [file]')
      .description('print the configuration a service would use: defaults, file, origin of each value, no secrets')
      .addOption(service())
      .option('--env', 'apply DELTAWATCH_* variables over the file, as the service would')
      .option('--json', 'JSON instead of YAML')
      .action((file: string | undefined, options: Options) =>
        runCommand(terminal, 'config print', async () => print(terminal, file, options)),
      ),
    [
      'deltawatch config print gateway.yaml --service gateway',
      'DELTAWATCH_CLUSTER=sz-edge-1 … deltawatch config print --service agent --env',
    ],
  )
}

const sources = (file: string | undefined, { service, env }: Options): ReturnType<typeof judge> =>
  // A file is judged alone unless asked otherwise: the answer must not depend on the shell it is asked from.
  judge(service, file, env === true ? environment() : {})

function check(terminal: Terminal, file: string, options: Options): number {
  const { judged } = sources(file, options)
  if (wantsJson(terminal, options.json)) terminal.out(json(judged))
  else if (judged.valid) terminal.out(`${file}: valid for the ${options.service}\n`)
  if (!judged.valid) complain(terminal, judged)
  else for (const warning of judged.warnings) terminal.err(`warning: ${warning}\n`)
  return judged.valid ? 0 : EX_CONFIG
}

function print(terminal: Terminal, file: string | undefined, options: Options): number {
  const { judged, shown } = sources(file, options)
  if (shown !== undefined) terminal.out(options.json === true ? json(shown.tree) : shown.text)
  if (!judged.valid) complain(terminal, judged)
  return judged.valid ? 0 : EX_CONFIG
}

function complain(terminal: Terminal, { file, service, problems, warnings }: Judged): void {
  const n = problems.length
  const count = `${n} problem${n === 1 ? '' : 's'}`
  terminal.err(`${file ?? 'the configuration'}: ${count}, not valid for the ${service}\n`)
  for (const problem of problems) terminal.err(`  ${problem}\n`)
  for (const warning of warnings) terminal.err(`  warning: ${warning}\n`)
  terminal.err(`every field: deltawatch-${service} --help, and docs/reference/config.md\n`)
}
