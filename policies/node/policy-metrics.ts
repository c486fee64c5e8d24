// What both services count of policy decisions.
// Owns: names, labels and words, for the services and for the reference made from them. Refuses: counting.

import type { Metrics } from '#kit/metrics.ts'

export const declareDecisionMetrics = (metrics: Metrics) => ({
  decisions: metrics.counter({
    name: 'deltawatch_policy_decisions_total',
    help: 'Policy decisions on changes, by stage, effect and rule; a change that several rules allow counts for each.',
    labels: ['stage', 'effect', 'rule'],
    maxSeries: 2_000,
  }),
  records: metrics.counter({
    name: 'deltawatch_policy_decision_records_total',
    help: 'Records of the decision log, by what became of them.',
    labels: ['outcome'],
  }),
})

export const declareShadowMetrics = (metrics: Metrics) =>
  metrics.counter({
    name: 'deltawatch_policy_shadow_differences_total',
    help: 'Decisions that the shadow bundle makes otherwise than the live one, by rule.',
    labels: ['stage', 'live', 'shadow', 'what', 'rule'],
    maxSeries: 1_000,
  })
