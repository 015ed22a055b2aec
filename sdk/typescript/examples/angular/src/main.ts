import '@pulsewire/connection-health';
import { JsonPipe } from '@angular/common';
import { Component, CUSTOM_ELEMENTS_SCHEMA, DestroyRef, inject, provideZonelessChangeDetection, signal } from '@angular/core';
import { bootstrapApplication } from '@angular/platform-browser';
import type { ChannelEvent } from '@pulsewire/client';
import { toNgSignal } from '@pulsewire/client/angular';
import { joinRun } from '@pulsewire/client/collab';
import { type App, client, run, runId } from '../../client.js';

@Component({
  selector: 'app-run',
  imports: [JsonPipe],
  schemas: [CUSTOM_ELEMENTS_SCHEMA],
  template: `
    <main (mousemove)="joined.moveCursor({ x: $event.clientX, y: $event.clientY })">
      <connection-health
        [health]="streamStore.connectionHealth()"
        [queuedMessages]="streamStore.queuedMessageCount()"
        [usingFallback]="streamStore.usingFallback()">
      </connection-health>
      <h1>{{ name }}</h1>
      <p>{{ users().join(' · ') }} {{ cursors() | json }}</p>
      <ol>
        @for (event of events(); track event.sequenceNumber) {
          <li>{{ event.type }} by {{ event.userId ?? 'nobody' }}: {{ event.data | json }}</li>
        }
      </ol>
      <button (click)="hello()">Say hello</button>
    </main>
  `,
})
class Run {
  readonly name = run;
  /** In document 003's words; a template that reads a signal follows it. */
  readonly streamStore = {
    connectionHealth: toNgSignal(client.connectionHealth),
    queuedMessageCount: toNgSignal(client.queuedMessageCount),
    usingFallback: toNgSignal(client.usingFallback),
  };
  readonly joined = joinRun(client, runId);
  readonly users = toNgSignal(this.joined.activeUsers);
  readonly cursors = toNgSignal(this.joined.cursorPositions);
  readonly events = signal<readonly ChannelEvent<App, `run:${string}`>[]>([]);

  constructor() {
    this.joined.subscribe((event) => this.events.update((all) => [...all, event].slice(-50)));
    inject(DestroyRef).onDestroy(() => this.joined.leave());
  }

  hello(): void {
    void this.joined.publish('note', { text: 'hello' });
  }
}

void bootstrapApplication(Run, { providers: [provideZonelessChangeDetection()] });
