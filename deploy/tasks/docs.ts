// npm run docs:gen [-- --check]: the reference pages that are made from the code they describe.
// Owns: which pages there are, and noticing one that is out of date (--check writes nothing and exits 1).
// Does not own: the words; they stand beside the fields, the codes and the metrics themselves.

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { declareAgentMetrics } from '#agent/relay-metrics.ts'
import { agentConfig } from '#agent/config.ts'
import { gatewayConfig } from '#gateway/config.ts'
import { declareBundleRules, declareSkew, declareUnrecorded } from '#gateway/policy-metrics.ts'
import { sessionMetrics } from '#gateway/session/metrics.ts'
import { declareUpstreamMeters } from '#gateway/upstream/metrics.ts'
import { renderReference } from '#kit/config/reference.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { declareTraceMetrics } from '#kit/telemetry/metrics.ts'
import { declareDecisionMetrics, declareShadowMetrics } from '#policies/node/policy-metrics.ts'
import { policyReference } from '#policies/engine/reference.ts'
import { Close, type Code, ErrorCode, retryFor } from '#protocol/codes.ts'
import { ROOT } from './spawn.ts'
import { protocolPages } from './spec-rules.ts'

const GENERATED = '<!-- Generated from the code. Do not edit; run `npm run docs:gen`. -->'
const RETRY = {
  never: 'do not reconnect unchanged',
  backoff: 'back off, then reconnect',
  now: 'reconnect now with the cursor',
}

const PAGES: Readonly<Record<string, () => string>> = {
  'config.md': () => renderReference([agentConfig, gatewayConfig]),
  'codes.md': renderCodes,
  'metrics.md': renderMetrics,
  'policy.md': () => policyReference(GENERATED),
}

function renderCodes(): string {
  const rows = (table: Readonly<Record<string, Code>>, label: string, advice: (code: number) => string): string[] =>
    Object.values(table)
      .toSorted((a, b) => a.code - b.code)
      .map(({ code, name, text }) => `| ${label}${code} | ${name} | ${text} | ${advice(code)} |`)
  const again = (code: number): string => (code >= 4100 ? 'ask again later' : 'change the request')
  const head = '| code | name | meaning | a client should |\n| --- | --- | --- | --- |'
  return [
    `# Codes\n\n${GENERATED}\n\n## WebSocket close codes\n\n${head}`,
    ...rows(Close, '', (code) => RETRY[retryFor(code)]),
    `\n## Codes of \`error\` frames\n\nThe connection lives on.\n\n${head}`,
    ...rows(ErrorCode, 'DW', again),
    '',
  ].join('\n')
}

function renderMetrics(): string {
  const service = (title: string, declare: (metrics: Metrics) => void): string[] => {
    const metrics = createMetrics({})
    declare(metrics)
    declareTraceMetrics(metrics)
    declareDecisionMetrics(metrics)
    declareShadowMetrics(metrics)
    const rows = metrics
      .catalogue()
      .map(({ name, type, labels, help }) => `| \`${name}\` | ${type} | ${labels.join(', ')} | ${help} |`)
    return [`## ${title}`, '', '| metric | type | labels | meaning |', '| --- | --- | --- | --- |', ...rows, '']
  }
  return [
    '# Metrics',
    '',
    GENERATED,
    '',
    'Served as `/metrics` in the Prometheus text format, beside the usual metrics of a Node process. Base units throughout.',
    '',
    ...service('deltawatch-agent', declareAgentMetrics),
    ...service('deltawatch-gateway', (metrics) => {
      declareUpstreamMeters(metrics)
      for (const declare of [declareBundleRules, declareSkew, declareUnrecorded]) declare(metrics)
      sessionMetrics(metrics)
    }),
  ].join('\n')
}

const check = process.argv.includes('--check')
const folder = join('docs', 'reference')
await mkdir(join(ROOT, folder), { recursive: true })
const reference = Object.entries(PAGES).map(([name, render]): [string, string] => [join(folder, name), render()])
const stale: string[] = []
for (const [name, text] of [...reference, ...Object.entries(await protocolPages())]) {
  const file = join(ROOT, name)
  if ((await readFile(file, 'utf8').catch(() => '')) === text) continue
  stale.push(name)
  if (!check) await writeFile(file, text)
}
const verb = check ? 'out of date' : 'written'
process.stdout.write(stale.length === 0 ? 'everything generated is up to date\n' : `${verb}: ${stale.join(', ')}\n`)
process.exitCode = check && stale.length > 0 ? 1 : 0
