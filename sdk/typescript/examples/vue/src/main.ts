import '@pulsewire/connection-health';
import { createApp } from 'vue';
import Run from './Run.vue';

createApp(Run).mount('#app');
