// One etcd member, asked as an agent would need it: there, new enough, healthy, readable.
// Owns: the questions, over etcd's HTTP gateway, and their findings.
// Refuses: changing anything. Whether this user could write is asked by a transaction whose condition never holds.

import { errorMessage } from '#kit/errors.ts'
import { type Finding, findingsAt, judgeClock, judgeEtcdVersion, type Say } from './finding.ts'
import { type Answer, ask, fieldsOf, type Tls } from './http.ts'

export type EtcdOptions = {
  readonly url: string
  readonly prefix: string
  readonly user?: string | undefined
  readonly password?: string | undefined
  readonly tls: Tls
  readonly timeoutMs: number
}

const NO_LEADER = 'look at the members with "etcdctl endpoint status --cluster"; a quorum must be up'

export async function examineEtcd(options: EtcdOptions): Promise<readonly Finding[]> {
  const say = findingsAt(`etcd ${options.url}`)
  let version: Answer
  try {
    version = await call(options, '/version')
  } catch (error) {
    const why = errorMessage(error)
    const tls = /certificate|tls|ssl|EPROTO|hang up|reset/i.test(why)
    const next = tls
      ? 'check http:// or https:// in --etcd, and --etcd-ca, --etcd-cert, --etcd-key'
      : 'check --etcd, that etcd runs there, and firewalls'
    return [say.fail('reachable', why, next)]
  }
  const text = fieldsOf(version.text)['etcdserver']
  if (typeof text !== 'string') {
    return [
      say.fail('reachable', `HTTP ${version.status}, but no etcd answers there`, 'give a client endpoint of etcd'),
    ]
  }
  const rest = await Promise.all([health(say, options), permissions(say, options)])
  return [
    say.ok('reachable', `round trip ${version.answeredAt - version.askedAt} ms`),
    judgeEtcdVersion(say, text),
    judgeClock(say, version, undefined),
    ...rest.flat(),
  ]
}

const call = (options: EtcdOptions, path: string, body?: object, token?: string): Promise<Answer> =>
  ask(new URL(path, options.url), {
    timeoutMs: options.timeoutMs,
    tls: options.tls,
    ...(token === undefined ? {} : { headers: { authorization: token } }),
    ...(body === undefined ? {} : { body }),
  })

async function health(say: Say, options: EtcdOptions): Promise<readonly Finding[]> {
  try {
    const { text, status } = await call(options, '/health')
    const { health, reason } = fieldsOf(text)
    if (health === 'true') return [say.ok('health', 'has a leader, no alarm')]
    const why = typeof reason === 'string' && reason !== '' ? reason : `HTTP ${status}`
    return [say.fail('health', `unhealthy: ${why}`, NO_LEADER)]
  } catch (error) {
    return [say.fail('health', errorMessage(error), NO_LEADER)]
  }
}

async function permissions(say: Say, options: EtcdOptions): Promise<readonly Finding[]> {
  try {
    const login = await authenticate(options)
    if (login.refused !== undefined) {
      return [say.fail('permissions', `login refused: ${login.refused}`, 'check --etcd-user and --etcd-password-file')]
    }
    const read = await call(
      options,
      '/v3/kv/range',
      { ...rangeOf(options.prefix), limit: 1, keys_only: true },
      login.token,
    )
    if (read.status === 404) {
      const next =
        "nothing, if it is off on purpose: agents do not need it. To check permissions, see the agent's own status"
      return [say.warn('permissions', 'unknown: the HTTP gateway of this etcd is off', next)]
    }
    return [readable(say, options, read), ...(read.status === 200 ? [await writable(say, options, login.token)] : [])]
  } catch (error) {
    return [say.fail('permissions', `unknown: ${errorMessage(error)}`, NO_LEADER)]
  }
}

type Login = { readonly token?: string; readonly refused?: string }

async function authenticate(options: EtcdOptions): Promise<Login> {
  const { user: name, password = '' } = options
  if (name === undefined) return {}
  const answer = await call(options, '/v3/auth/authenticate', { name, password })
  const { token } = fieldsOf(answer.text)
  if (typeof token === 'string') return { token }
  const why = messageOf(answer)
  // Without authentication there is nothing to log in to; the reads show what that means.
  return /not enabled/.test(why) ? {} : { refused: why }
}

function readable(say: Say, { prefix, user }: EtcdOptions, answer: Answer): Finding {
  if (answer.status === 200) return say.ok('can read', `the keys under ${JSON.stringify(prefix)}`)
  const why = messageOf(answer)
  if (/permission denied/.test(why)) {
    const grant = `etcdctl role grant-permission <role> read ${JSON.stringify(prefix)} --prefix=true`
    return say.fail(
      'can read',
      `${user ?? 'this certificate'} may not read ${JSON.stringify(prefix)}`,
      `grant it: ${grant}`,
    )
  }
  if (/user name is empty|auth token|invalid token/.test(why)) {
    return say.fail(
      'can read',
      'authentication is on and no user was given',
      'give --etcd-user and --etcd-password-file',
    )
  }
  return say.fail('can read', why, NO_LEADER)
}

/** etcd checks the rights of both branches; `version < 0` never holds, so nothing is ever written. */
async function writable(say: Say, options: EtcdOptions, token: string | undefined): Promise<Finding> {
  const { key } = rangeOf(options.prefix)
  const never = { key, target: 'VERSION', result: 'LESS', version: '0' }
  const answer = await call(options, '/v3/kv/txn', { compare: [never], success: [{ request_put: { key } }] }, token)
  if (answer.status !== 200) return say.ok('cannot write', 'read only, as an agent should be')
  const who = token === undefined ? 'everybody who reaches it (authentication is off, or by certificate)' : options.user
  return say.warn(
    'cannot write',
    `${who ?? 'this user'} may write`,
    'give the agent a user that may only read its range',
  )
}

/** The keys under a prefix, as etcd spells a range: every key for the empty prefix. */
function rangeOf(prefix: string): { readonly key: string; readonly range_end: string } {
  const bytes = Buffer.from(prefix, 'utf8')
  const at = bytes.findLastIndex((byte) => byte < 0xff)
  if (at < 0) return { key: zero, range_end: zero }
  const end = Buffer.from(bytes.subarray(0, at + 1))
  end[at] = (end[at] ?? 0) + 1
  return { key: bytes.toString('base64'), range_end: end.toString('base64') }
}
const zero = Buffer.from([0]).toString('base64')

function messageOf({ text, status }: Answer): string {
  const { message, error } = fieldsOf(text)
  return typeof message === 'string' ? message : typeof error === 'string' ? error : `HTTP ${status}`
}
