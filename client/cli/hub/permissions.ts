// What each NATS user of the product may do, and not a subject more.
// Owns: the lists, from the names in protocol/subjects.ts, and their form as a nats-server configuration snippet.
// Refuses: secrets. Passwords stand in the snippet as names of environment variables of the server.

import { agentPublishSubjects, type ClusterId, decisionSubject, markSubject, streamName } from '#protocol/subjects.ts'

export type Permissions = {
  readonly user: string
  /** Environment variable of the server that holds the password. */
  readonly passwordFrom: string
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
}

const variable = (user: string): string => `DW_${user.toUpperCase().replaceAll('-', '_')}_PASSWORD`

/** An agent writes its own log and marks, reads their tail, and hears its standby's marks. */
export function agentPermissions(cluster: ClusterId): Permissions {
  const user = `agent-${cluster}`
  return {
    user,
    passwordFrom: variable(user),
    publish: agentPublishSubjects(cluster),
    subscribe: [markSubject(cluster), `_INBOX_dw_${cluster}.>`],
  }
}

/** The gateway reads every log through short-lived consumers and hears every cluster's marks. It writes to none. */
export function gatewayPermissions(clusters: readonly ClusterId[]): Permissions {
  const api = clusters.flatMap((cluster) => {
    const stream = streamName(cluster)
    return [
      `$JS.API.STREAM.INFO.${stream}`,
      `$JS.API.STREAM.MSG.GET.${stream}`,
      `$JS.API.CONSUMER.CREATE.${stream}`,
      `$JS.API.CONSUMER.CREATE.${stream}.>`,
      `$JS.API.CONSUMER.DELETE.${stream}.*`,
      `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
      decisionSubject(cluster),
    ]
  })
  return {
    user: 'gateway',
    passwordFrom: variable('gateway'),
    publish: api,
    subscribe: [...clusters.map(markSubject), '_INBOX_dw_gateway.>'],
  }
}

/** For whoever runs this command: creating, changing and looking at the logs. */
export function operatorPermissions(clusters: readonly ClusterId[]): Permissions {
  const api = clusters.flatMap((cluster) => {
    const stream = streamName(cluster)
    return ['INFO', 'CREATE', 'UPDATE', 'MSG.GET'].map((verb) => `$JS.API.STREAM.${verb}.${stream}`)
  })
  return {
    user: 'operator',
    passwordFrom: variable('operator'),
    publish: ['$JS.API.INFO', ...api],
    subscribe: [...clusters.map(markSubject), '_INBOX_dw_operator.>'],
  }
}

export function snippet(users: readonly Permissions[]): string {
  const list = (subjects: readonly string[]): string => `[${subjects.map((one) => JSON.stringify(one)).join(', ')}]`
  const blocks = users.map(
    ({ user, passwordFrom, publish, subscribe }) => `    {
      user: ${JSON.stringify(user)}, password: $${passwordFrom}
      permissions: {
        publish: { allow: ${list(publish)} }
        subscribe: { allow: ${list(subscribe)} }
      }
    }`,
  )
  return `# Users of deltawatch. nats-server reads the passwords from its environment.
authorization {
  users: [
${blocks.join('\n')}
  ]
}
`
}
