import {
  type MaybeRefOrGetter, onScopeDispose, type ShallowRef, shallowRef, toValue, watchPostEffect,
} from 'vue';
import type { Readable } from './readable.js';
import type { ChannelEvent, ChannelName, ChannelOptions, Client, Schema } from './types.js';

/** A ref that follows a {@link Readable} until its component or effect scope ends. */
export function toRef<T>(readable: Readable<T>): Readonly<ShallowRef<T>> {
  const ref = shallowRef(readable());
  onScopeDispose(readable.subscribe((value) => void (ref.value = value)));
  return ref;
}

/** Subscribes while the component is there; follows `name` when it is a ref or a getter. Nothing happens on a server. */
export function useChannel<S extends Schema, K extends ChannelName<S>>(
  client: Client<S>, name: MaybeRefOrGetter<K>, handler: (event: ChannelEvent<S, K>) => unknown, options?: ChannelOptions,
): void {
  watchPostEffect((onCleanup) => onCleanup(client.channel(toValue(name), options).subscribe(handler)));
}
