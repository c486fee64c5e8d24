// What the doctor says: one finding per question asked, and the sentence that puts it right.
// Owns: the three verdicts, version ranges, and the judgement of a clock from one HTTP answer. Pure.
// Refuses: asking anybody (etcd.ts, hub.ts, gateway.ts do).

import { withoutUserinfo } from '#kit/userinfo.ts'

export type Verdict = 'ok' | 'warn' | 'fail'

export type Finding = {
  /** Who was asked, such as `etcd http://127.0.0.1:7501`. */
  readonly at: string
  readonly check: string
  readonly verdict: Verdict
  readonly detail: string
  /** What to do; absent when nothing has to be done. */
  readonly next?: string
}

/** Findings of one place: `const say = findingsAt('hub …'); say.ok('version', '2.15.2')`. */
export function findingsAt(place: string) {
  const at = withoutUserinfo(place)
  const finding = (check: string, verdict: Verdict, detail: string): Finding => {
    return { at, check, verdict, detail: withoutUserinfo(detail) }
  }
  return {
    ok: (check: string, detail: string): Finding => finding(check, 'ok', detail),
    warn: (check: string, detail: string, next: string): Finding => ({ ...finding(check, 'warn', detail), next }),
    fail: (check: string, detail: string, next: string): Finding => ({ ...finding(check, 'fail', detail), next }),
  }
}
export type Say = ReturnType<typeof findingsAt>

export type Version = readonly [major: number, minor: number, patch: number]

export function parseVersion(text: string): Version | undefined {
  const [, major, minor, patch] = /^v?(\d{1,4})\.(\d{1,4})\.(\d{1,6})/.exec(text) ?? []
  return major === undefined ? undefined : [Number(major), Number(minor), Number(patch)]
}

const compare = (a: Version, b: Version): number => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]

const ETCD_OLDEST: Version = [3, 4, 23]
const ETCD_NEWEST = [3, 7] as const
const NATS_OLDEST: Version = [2, 10, 0]

export function judgeEtcdVersion(say: Say, text: string): Finding {
  const version = parseVersion(text)
  if (version === undefined) {
    return say.warn('version', `${JSON.stringify(text)} is no version`, 'check that this address is an etcd member')
  }
  if (compare(version, ETCD_OLDEST) < 0) {
    return say.fail(
      'version',
      `${text}; supported from ${ETCD_OLDEST.join('.')}`,
      'update this etcd: older ones lose watch events',
    )
  }
  if (version[0] > ETCD_NEWEST[0] || (version[0] === ETCD_NEWEST[0] && version[1] > ETCD_NEWEST[1])) {
    return say.warn('version', `${text}; tried up to ${ETCD_NEWEST.join('.')}`, 'look for a newer deltawatch')
  }
  return say.ok('version', text)
}

export function judgeNatsVersion(say: Say, text: string): Finding {
  const version = parseVersion(text)
  if (version !== undefined && compare(version, NATS_OLDEST) >= 0) return say.ok('version', text)
  const advice = 'update nats-server before production'
  if (version?.[0] === 2 && version[1] === 9)
    return say.warn('version', `${text}; supported from 2.10, enough for a demo`, advice)
  return say.fail('version', `${text}; supported from 2.10`, 'update nats-server')
}

/** An answer's `Date`, and when it was asked for and received; Unix ms of the local clock. */
export type DatedAnswer = { readonly date: string | undefined; readonly askedAt: number; readonly answeredAt: number }

/** `Date` counts whole seconds. */
const DATE_STEP_MS = 1_000
const CLOCK_WARN_MS = 2_000

/** `[least, most]` that the other clock is ahead of ours; undefined when the answer carried no date. */
export function clockOffset({ date, askedAt, answeredAt }: DatedAnswer): readonly [number, number] | undefined {
  const at = date === undefined ? Number.NaN : Date.parse(date)
  return Number.isNaN(at) ? undefined : [at - answeredAt, at + DATE_STEP_MS - askedAt]
}

/** `failAbove`: the offset, in ms, from which something stops working; undefined: nothing does. */
export function judgeClock(say: Say, answer: DatedAnswer, failAbove: number | undefined): Finding {
  const offset = clockOffset(answer)
  if (offset === undefined) {
    return say.warn('clock', 'the answer has no Date header', 'compare the clocks by hand: a proxy may have removed it')
  }
  const [least, most] = offset
  const bound = `offset between ${signed(least)} and ${signed(most)}, round trip ${Math.round(answer.answeredAt - answer.askedAt)} ms`
  // The whole interval must lie beyond a limit: what the measurement cannot tell is no fault of the clock.
  const atLeast = least > 0 ? least : most < 0 ? -most : 0
  const next = 'synchronise the clocks (chrony or ntpd) there and here'
  if (failAbove !== undefined && atLeast > failAbove) {
    return say.fail('clock', `${bound}; tokens are judged wrongly`, next)
  }
  return atLeast > CLOCK_WARN_MS ? say.warn('clock', bound, next) : say.ok('clock', bound)
}

const signed = (ms: number): string => `${ms < 0 ? '-' : '+'}${(Math.abs(ms) / 1000).toFixed(1)} s`

export const worst = (findings: readonly Finding[]): Verdict =>
  findings.some(({ verdict }) => verdict === 'fail')
    ? 'fail'
    : findings.some(({ verdict }) => verdict === 'warn')
      ? 'warn'
      : 'ok'
