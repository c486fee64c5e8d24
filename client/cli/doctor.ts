// `deltawatch doctor`: what is wrong between etcd, the hub and a gateway, and what to do about it.
// Owns: the command line, asking everybody at once, the table, exit code 1 when anything failed.
// Refuses: changing anything anywhere. Each question is bounded in time, so it answers also when everything is down.

import { readFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { errorMessage } from '#kit/errors.ts'
import { withoutUserinfo } from '#kit/userinfo.ts'
import { examineEtcd } from './doctor/etcd.ts'
import { type Finding, findingsAt, worst } from './doctor/finding.ts'
import { examineGateway } from './doctor/gateway.ts'
import type { Tls } from './doctor/http.ts'
import { examineHub } from './doctor/hub.ts'
import { clusterIds, readPassword } from './hub.ts'
import { type HubOptions, hubOptions, NATS_OPTION } from './hub/session.ts'
import {
  CommandError,
  json,
  list,
  processTerminal,
  runCommand,
  table,
  type Terminal,
  wantsJson,
  withExamples,
} from './hub/terminal.ts'

type DoctorOptions = Partial<HubOptions> & {
  readonly etcd?: readonly string[]
  readonly etcdUser?: string
  readonly etcdPasswordFile?: string
  readonly etcdCa?: string
  readonly etcdCert?: string
  readonly etcdKey?: string
  readonly prefix: string
  readonly clusters?: readonly string[]
  readonly gateway?: string
  readonly gatewayCa?: string
  readonly timeout: number
  readonly json?: boolean
}

/** What `npm start` brings up; asked when no address is given. */
const LOCAL = {
  etcd: ['http://127.0.0.1:7501', 'http://127.0.0.1:7502', 'http://127.0.0.1:7503'],
  nats: ['nats://127.0.0.1:7422'],
  clusters: ['sz-edge-1', 'gz-edge-1', 'mo-edge-1'],
  gateway: 'http://127.0.0.1:7400',
} as const

export function registerDoctorCommand(program: Command, terminal: Terminal = processTerminal()): void {
  const command = program
    .command('doctor')
    .description(
      'Ask etcd, the hub and a gateway whether they are there, new enough, set up right and in step, and say what to ' +
        'do about what is not. Only what is named is asked; without any address, the local stack of "npm start". ' +
        'Changes nothing. Exit code 1 when anything failed.',
    )
    .option('--etcd <urls>', 'members of etcd, http://host:port or https://host:port', list)
    .option('--prefix <key>', 'the agent reads the keys under this prefix', '/')
    .option('--etcd-user <name>', 'user at etcd, best the one the agent uses')
    .option('--etcd-password-file <file>', 'file with the password of that user')
    .option('--etcd-ca <file>', 'PEM file of the authorities that may sign the members')
    .option('--etcd-cert <file>', 'PEM file of the client certificate')
    .option('--etcd-key <file>', 'PEM file of the key of the client certificate')
    .option(...NATS_OPTION)
    .option('--clusters <ids>', 'clusters whose logs the hub should keep', list)
    .option('--gateway <url>', 'a gateway, as subscribers reach it')
    .option('--gateway-ca <file>', 'PEM file of the authorities that may sign the gateway')
    .option('--timeout <seconds>', 'time for each question', secondsOf, 5)
    .option('--json', 'JSON, also on a terminal')
  withExamples(
    hubOptions(command).action((options: DoctorOptions) =>
      runCommand(terminal, 'doctor', () => examine(terminal, options)),
    ),
    [
      'deltawatch doctor',
      'deltawatch doctor --etcd http://10.0.0.1:2379 --etcd-user agent --etcd-password-file pw --prefix /microservices/',
      'deltawatch doctor --nats tls://hub:4222 --clusters sz-edge-1,gz-edge-1 --creds-file operator.creds --json',
    ],
  )
}

async function examine(terminal: Terminal, given: DoctorOptions): Promise<number> {
  const named = given.etcd !== undefined || given.nats !== undefined || given.gateway !== undefined
  const options: DoctorOptions = named ? given : { ...given, ...LOCAL, clusters: given.clusters ?? LOCAL.clusters }
  if (options.clusters !== undefined && options.nats === undefined) {
    throw new CommandError('DW_DOCTOR_HUB', '--clusters says which logs to look for; give --nats, where to look', 2)
  }
  const findings = (await Promise.all(questions(options))).flat()
  const verdict = worst(findings)
  if (wantsJson(terminal, options.json)) terminal.out(json({ verdict, findings }))
  else terminal.out(asTable(findings, terminal.columns))
  return verdict === 'fail' ? 1 : 0
}

function questions(options: DoctorOptions): Promise<readonly Finding[]>[] {
  const { etcd = [], nats, gateway, prefix, etcdUser: user } = options
  const timeoutMs = options.timeout * 1_000
  const ids = options.clusters === undefined ? [] : clusterIds(options.clusters)
  const members = etcd.map((url) =>
    asked(`etcd ${url}`, async () => {
      requireUrl('--etcd', url, /^https?:$/)
      const tls = await tlsFrom({ ca: options.etcdCa, cert: options.etcdCert, key: options.etcdKey })
      const password = await readPassword(options.etcdPasswordFile, '--etcd-password-file')
      return examineEtcd({ url, prefix, user, password, tls, timeoutMs })
    }),
  )
  const hub = asked(`hub ${nats?.join(',')}`, async () => {
    if (nats === undefined) return []
    return examineHub({ ...options, nats, password: await readPassword(options.passwordFile), timeoutMs }, ids)
  })
  const front = asked(`gateway ${gateway}`, async () => {
    if (gateway === undefined) return []
    requireUrl('--gateway', gateway, /^(https?|wss?):$/)
    return examineGateway(gateway, await tlsFrom({ ca: options.gatewayCa }), timeoutMs)
  })
  return [...members, hub, front]
}

/** One place's trouble never hides what the others said. */
async function asked(at: string, work: () => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof CommandError && error.exitCode === 2) throw error
    return [
      findingsAt(at).fail('asked', errorMessage(error), 'this is unexpected; run again with --json and report it'),
    ]
  }
}

async function tlsFrom(
  files: Readonly<Record<keyof Tls, string | undefined>> | { ca: string | undefined },
): Promise<Tls> {
  const read = Object.entries(files).flatMap(([name, path]) => (path === undefined ? [] : [[name, path] as const]))
  const loaded = await Promise.all(
    read.map(async ([name, path]) => {
      try {
        return [name, await readFile(path)] as const
      } catch {
        throw new CommandError('DW_DOCTOR_FILE', `${path} cannot be read; check the path and its mode`, 2)
      }
    }),
  )
  return Object.fromEntries(loaded)
}

function requireUrl(option: string, text: string, protocol: RegExp): void {
  if (URL.canParse(text) && protocol.test(new URL(text).protocol)) return
  throw new CommandError(
    'DW_DOCTOR_URL',
    `${option} ${withoutUserinfo(JSON.stringify(text))} is no address; write http://host:port`,
    2,
  )
}

function secondsOf(text: string): number {
  const seconds = Number(text)
  if (seconds > 0 && seconds <= 600) return seconds
  throw new InvalidArgumentError('Write seconds above 0, at most 600.')
}

function asTable(findings: readonly Finding[], columns: number): string {
  const places = Map.groupBy(findings, ({ at }) => at)
  const parts = [...places].map(([at, said]) => {
    const rows = said.map(({ check, verdict, detail, next }) => [
      `  ${verdict}`,
      check,
      next === undefined ? detail : `${detail} -> ${next}`,
    ])
    return `${at}\n${table(rows, columns)}`
  })
  const count = (verdict: Finding['verdict']): number => findings.filter((one) => one.verdict === verdict).length
  return `${parts.join('\n')}\n${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} failed\n`
}
