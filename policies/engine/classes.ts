// Classes of subscribers: everybody the bundle treats alike shares one, so that decisions and encodings are made once per class.
// Owns: the projection onto regions, audiences and whenSubscriber results, and the cap. Raw scopes are not part of it: they would make
// one class per user. Does not own: who the subscriber is (gateway/auth).

import { MAX_CLASSES } from './bounds.ts'
import type { PolicyBundle, PolicyClass, Subscriber } from './types.ts'

const live = new WeakMap<PolicyBundle, Map<string, PolicyClass>>()

const classesOf = (bundle: PolicyBundle): Map<string, PolicyClass> => {
  let classes = live.get(bundle)
  if (classes === undefined) live.set(bundle, (classes = new Map()))
  return classes
}

/** The subscriber's class; refused when it would be one more than the cap. The same subscriber always gets the same object. */
export function classify(
  bundle: PolicyBundle,
  subscriber: Subscriber,
): PolicyClass | { readonly refused: 'too-many-classes' } {
  const { regions, audiences, conditions } = bundle.compiled
  const region = regions.has(subscriber.region) ? subscriber.region : ''
  const held =
    subscriber.org === undefined || subscriber.org === ''
      ? subscriber.audiences
      : [...subscriber.audiences, `org:${subscriber.org}`]
  const own = [...new Set(held)].filter((audience) => audiences.has(audience)).sort()
  let results = ''
  for (const condition of conditions) {
    try {
      results += condition.evaluate(subscriber) ? '1' : '0'
    } catch {
      results += 'e'
    }
  }
  const id = JSON.stringify([region, own, results])
  const classes = classesOf(bundle)
  const known = classes.get(id)
  if (known !== undefined) return known
  if (classes.size >= MAX_CLASSES) return { refused: 'too-many-classes' }
  const cls: PolicyClass = Object.freeze({ id, bundle: bundle.revision, region, audiences: own, conditions: results })
  classes.set(id, cls)
  return cls
}

/** Gives the place under the cap back once no session is of the class any more. */
export function releaseClass(bundle: PolicyBundle, cls: PolicyClass): void {
  classesOf(bundle).delete(cls.id)
}
