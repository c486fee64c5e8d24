// What each user of the hub may do and nothing else, as configuration of nats-server.
// Owns: the subjects of agents, of the gateway and of the operator's commands; the text of the snippet.
// Refuses: secrets. The snippet names a variable for each, which nats-server takes from its environment.

import { bucketSubjects as policyBucketSubjects } from '#policies/node/origin.ts'
import { agentPublishSubjects, type ClusterId, decisionSubject, markSubject, streamName } from '#protocol/subjects.ts'
import { CommandError } from './terminal.ts'

export type HubUser = {
  readonly name: string
  /** What stands before the user in the snippet. */
  readonly purpose: string
  /** Environment variable of nats-server that holds the password, or the public nkey. */
  readonly variable: string
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
}

export type PermissionOptions = {
  /** One list per agent process; the first of a list names its user and its inbox. */
  readonly agents: readonly (readonly ClusterId[])[]
  readonly auth: 'password' | 'nkey'
  /** Adds the user that `hub apply`, `hub purge` and `doctor` connect as. */
  readonly operator: boolean
  /** KV bucket of revocations that the gateway follows. */
  readonly revocations?: string
  /** KV bucket that agents and gateways read policy bundles from. */
  readonly policies?: string
}

/** Replies reach a service under its own prefix only; both services connect with these. */
export const agentInbox = (cluster: ClusterId): string => `_INBOX_dw_${cluster}`
export const GATEWAY_INBOX = '_INBOX_dw_gateway'
/** With a dash, so that no cluster id can spell it. */
export const OPERATOR_INBOX = '_INBOX_dw-operator'

export function hubUsers(options: PermissionOptions): readonly HubUser[] {
  const clusters = options.agents.flat()
  // Bundles are read entry by entry, which takes no consumer and no wildcard.
  const policies = options.policies === undefined ? [] : policyBucketSubjects(options.policies)
  refuseUnsafe(clusters)
  const agents = options.agents.flatMap((served) =>
    served[0] === undefined ? [] : [agentUser(served[0], served, policies)],
  )
  const operator = options.operator ? [operatorUser(clusters)] : []
  return [...agents, gatewayUser(clusters, options.revocations, policies), ...operator]
}

function refuseUnsafe(clusters: readonly ClusterId[]): void {
  const twice = clusters.find((cluster, i) => clusters.indexOf(cluster) !== i)
  if (twice !== undefined) {
    throw new CommandError('DW_HUB_CLUSTERS', `--clusters names ${twice} twice; one agent user serves each cluster`, 2)
  }
  if (clusters.some((cluster) => agentInbox(cluster) === GATEWAY_INBOX)) {
    const why = "its agent's replies would arrive under the gateway's own inbox prefix"
    throw new CommandError('DW_HUB_CLUSTERS', `--clusters names a cluster "gateway": ${why}; give it another id`, 2)
  }
}

function agentUser(first: ClusterId, served: readonly ClusterId[], policies: readonly string[]): HubUser {
  return {
    name: `deltawatch-agent-${first}`,
    purpose: `the agents of ${served.join(', ')}: append to their own log, read its tail, exchange bookmarks, record decisions`,
    variable: `DW_AGENT_${first.toUpperCase().replaceAll('-', '_')}`,
    publish: [...served.flatMap(agentPublishSubjects), ...policies],
    subscribe: [...served.map(markSubject), `${agentInbox(first)}.>`],
  }
}

function gatewayUser(
  clusters: readonly ClusterId[],
  revocations: string | undefined,
  policies: readonly string[],
): HubUser {
  const reading = clusters.flatMap((cluster) => readingSubjects(streamName(cluster)))
  // A bucket is a stream; the client's watch of it is a consumer like any other, made under a name and a filter.
  const bucket = revocations === undefined ? [] : bucketSubjects(`KV_${revocations}`)
  return {
    name: 'deltawatch-gateway',
    purpose: 'the gateways: read every log, write none, record decisions',
    variable: 'DW_GATEWAY',
    publish: [...reading, ...clusters.map(decisionSubject), ...bucket, ...policies],
    subscribe: [...clusters.map(markSubject), `${GATEWAY_INBOX}.>`],
  }
}

const readingSubjects = (stream: string): readonly string[] => [
  `$JS.API.STREAM.INFO.${stream}`,
  `$JS.API.STREAM.MSG.GET.${stream}`,
  `$JS.API.CONSUMER.CREATE.${stream}`,
  `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
  `$JS.API.CONSUMER.DELETE.${stream}.*`,
]

const bucketSubjects = (stream: string): readonly string[] => [
  `$JS.API.STREAM.INFO.${stream}`,
  `$JS.API.CONSUMER.CREATE.${stream}.>`,
  `$JS.API.CONSUMER.INFO.${stream}.*`,
  `$JS.API.CONSUMER.DELETE.${stream}.*`,
  `$JS.FC.${stream}.>`,
]

/** Entries are read to know up to which checkpoint a purge may go. */
const OPERATOR_VERBS = ['INFO', 'CREATE', 'UPDATE', 'MSG.GET', 'PURGE'] as const

function operatorUser(clusters: readonly ClusterId[]): HubUser {
  return {
    name: 'deltawatch-operator',
    purpose: '"deltawatch hub apply", "hub purge" and "doctor": make, judge and purge the streams, write no entry',
    variable: 'DW_OPERATOR',
    publish: [
      '$JS.API.INFO',
      ...clusters.flatMap((cluster) => OPERATOR_VERBS.map((verb) => `$JS.API.STREAM.${verb}.${streamName(cluster)}`)),
    ],
    subscribe: [`${OPERATOR_INBOX}.>`],
  }
}

export function permissionsText(options: PermissionOptions): string {
  const users = hubUsers(options)
  const secret = options.auth === 'nkey' ? 'public nkey (it begins with U)' : 'password, best as a bcrypt hash'
  const how =
    options.auth === 'nkey'
      ? ['# The seed stays with the service: nats.nkeySeedFile in its file.']
      : [
          '# nats-server reads a variable as a value of this file: quote it when it is a hash or a number, as in',
          `#   export DW_GATEWAY='"$2a$11$…"'`,
          '# The service connects with nats.user and nats.passwordFile in its file.',
        ]
  const lines = [
    '# Users of a deltawatch hub, each with exactly what it needs; everything else is denied.',
    '# Put this into the configuration of nats-server (or include it as a file) and start the server with these',
    `# variables in its environment, each holding that user's ${secret}:`,
    ...users.map((user) => `#   ${user.variable}`),
    ...how,
    'authorization {',
    '  users: [',
    ...users.flatMap((user) => userText(user, options.auth)),
    '  ]',
    '}',
  ]
  return `${lines.join('\n')}\n`
}

function userText(user: HubUser, auth: PermissionOptions['auth']): string[] {
  const who = auth === 'nkey' ? `nkey: $${user.variable}` : `user: "${user.name}", password: $${user.variable}`
  const block = (name: string, subjects: readonly string[]): string[] => [
    `        ${name}: { allow: [`,
    ...subjects.map((subject) => `          "${subject}"`),
    '        ] }',
  ]
  return [
    `    # ${user.name} - ${user.purpose}`,
    '    {',
    `      ${who}`,
    '      permissions: {',
    ...block('publish', user.publish),
    ...block('subscribe', user.subscribe),
    '      }',
    '    }',
  ]
}
