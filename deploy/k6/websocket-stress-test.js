// @ts-check
// Document 001's stress: 1,000 connections for ten minutes, twice what is normal. Latency may reach where a warning is given.
//
//     k6 run websocket-stress-test.js --vus 1000 --duration 10m
import { listen, optionsOf } from './listener.js';

export const options = optionsOf({ vus: 1000, duration: '10m', latency_ms: 100 });

export default listen;
