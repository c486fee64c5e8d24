// The series of one metric: a bounded map from label values to a cell.
// Owns: lookup by labels, the bound on how many there are, and their export as samples.
// Does not own: what a cell counts (metrics.ts) or the text format (prom-client).

export interface Sample {
  readonly metricName?: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

interface Cell {
  sample(name: string, labels: Readonly<Record<string, string>>): Sample[]
}

/** The label value shared by everything beyond the bound. */
export const OVERFLOW_LABEL = 'other'

export class Series<B extends Cell> {
  /** How many `with` calls met the bound and were given the shared series. */
  overflowed = 0
  readonly #labels: readonly string[]
  readonly #max: number
  readonly #open: () => B
  readonly #cells = new Map<string, { readonly labels: Readonly<Record<string, string>>; readonly cell: B }>()

  constructor(labels: readonly string[], max: number, open: () => B) {
    this.#labels = labels
    this.#max = max
    this.#open = open
    // A metric without labels exists from the start, so that "zero" and "never declared" look different.
    if (labels.length === 0) this.#add('', {})
  }

  only(): B {
    return this.with({})
  }

  with(labels: Readonly<Record<string, string>>): B {
    const id = this.#id(labels)
    const found = this.#cells.get(id)
    if (found !== undefined) return found.cell
    if (this.#cells.size < this.#max)
      return this.#add(
        id,
        this.#pick((name) => labels[name] ?? ''),
      )
    this.overflowed++
    const shared = this.#pick(() => OVERFLOW_LABEL)
    const sharedId = this.#id(shared)
    return this.#cells.get(sharedId)?.cell ?? this.#add(sharedId, shared)
  }

  remove(labels: Readonly<Record<string, string>>): void {
    this.#cells.delete(this.#id(labels))
  }

  samples(name: string): Sample[] {
    return [...this.#cells.values()].flatMap(({ labels, cell }) => cell.sample(name, labels))
  }

  #add(id: string, labels: Readonly<Record<string, string>>): B {
    const cell = this.#open()
    this.#cells.set(id, { labels, cell })
    return cell
  }

  #pick(value: (name: string) => string): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#labels.map((name) => [name, value(name)]))
  }

  #id(labels: Readonly<Record<string, string>>): string {
    // NUL separates: label values come from ids and codes, which never hold it.
    return this.#labels.map((name) => labels[name] ?? '').join('\u0000')
  }
}
