import '@pulsewire/connection-health';
import { mount } from 'svelte';
import Run from './Run.svelte';

const target = document.querySelector('#app');
if (target) mount(Run, { target });
