import { DestroyRef, inject, type Signal, signal } from '@angular/core';
import type { Readable } from './readable.js';

/**
 * A signal that follows a {@link Readable} until the component, or whatever `destroyRef` belongs to, is destroyed. Without a
 * `destroyRef` it must be called where `inject` may be: in a constructor or a field.
 */
export function toNgSignal<T>(readable: Readable<T>, destroyRef: DestroyRef = inject(DestroyRef)): Signal<T> {
  const value = signal(readable());
  destroyRef.onDestroy(readable.subscribe((next) => value.set(next)));
  return value.asReadonly();
}
