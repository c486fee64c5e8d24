// The gateway's own account of itself, and its clock.
// Owns: reading /readyz?verbose, line by line. Refuses: judging what the gateway judges better: its lines are passed on.

import { errorMessage } from '#kit/errors.ts'
import { type Finding, findingsAt, judgeClock, type Say } from './finding.ts'
import { type Answer, ask, type Tls } from './http.ts'

/** What a gateway allows in a token's exp and nbf unless told otherwise (auth.clockTolerance). */
const CLOCK_TOLERANCE_MS = 5_000
const LINE = /^\[([+!-])\](\S+) (.*)$/

export async function examineGateway(url: string, tls: Tls, timeoutMs: number): Promise<readonly Finding[]> {
  const say = findingsAt(`gateway ${url}`)
  let answer: Answer
  try {
    const target = new URL('/readyz?verbose', url.replace(/^ws/, 'http'))
    answer = await ask(target, { timeoutMs, tls })
  } catch (error) {
    return [say.fail('reachable', errorMessage(error), 'check --gateway and that deltawatch-gateway is running there')]
  }
  const lines = readReport(say, answer.text)
  if (lines.length === 0) {
    const next = 'give the address subscribers connect to, such as http://127.0.0.1:7400'
    return [say.fail('reachable', `HTTP ${answer.status}, but no gateway answers there`, next)]
  }
  return [
    say.ok('reachable', `round trip ${answer.answeredAt - answer.askedAt} ms`),
    judgeClock(say, answer, CLOCK_TOLERANCE_MS),
    ...lines,
  ]
}

/** Exported for its test. */
export function readReport(say: Say, text: string): readonly Finding[] {
  return text.split('\n').flatMap((line) => {
    const [, sign, name = '', rest = ''] = LINE.exec(line) ?? []
    const detail = rest.replace(/^(ok|degraded|failed)(: )?/, '') || 'ok'
    if (sign === '+') return [say.ok(`ready: ${name}`, detail)]
    const next = "see the gateway's log for its last words on this"
    if (sign === '!') return [say.warn(`ready: ${name}`, `degraded: ${detail}`, next)]
    return sign === '-' ? [say.fail(`ready: ${name}`, detail, next)] : []
  })
}
