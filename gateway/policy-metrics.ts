// What a gateway shows of its bundles, beside the decisions that both services count.
// Owns: names, labels and words. Refuses: reading and counting (policies.ts, policy-record.ts, policy-skew.ts).

import type { Metrics } from '#kit/metrics.ts'

export const declareBundleRules = (metrics: Metrics) =>
  metrics.gauge({
    name: 'deltawatch_policy_bundle_rules',
    help: 'Rules of each bundle in force, by role and revision (its first 12 digits).',
    labels: ['role', 'revision'],
    maxSeries: 64,
  })

export const declareUnrecorded = (metrics: Metrics) =>
  metrics.counter({
    name: 'deltawatch_policy_unrecorded_revisions_total',
    help: 'Revisions that left the ring before their decisions were recorded.',
  })

export const declareSkew = (metrics: Metrics) =>
  metrics.gauge({
    name: 'deltawatch_policy_skew',
    help: '1 while the agent of a cluster has enforced another bundle than this gateway for longer than policySkew.',
    labels: ['cluster'],
  })
