// @ts-check
// Document 001's load: 500 connections for five minutes.
//
//     k6 run websocket-load-test.js --vus 500 --duration 5m
import { listen, optionsOf } from './listener.js';

export const options = optionsOf({ vus: 500, duration: '5m', latency_ms: 50 });

export default listen;
