// What Flagger (flagger.app/v1beta1) takes of what we use, by its reference: no package has its schemas.
import type { Labels } from './manifests.js';

interface Reference { readonly apiVersion: string; readonly kind: string; readonly name: string }
interface Metadata { readonly name: string; readonly namespace?: string; readonly labels?: Labels }

export interface Canary {
  readonly apiVersion: 'flagger.app/v1beta1';
  readonly kind: 'Canary';
  readonly metadata: Metadata;
  readonly spec: {
    readonly provider?: 'kubernetes' | 'nginx' | 'istio' | 'linkerd' | 'contour' | 'gatewayapi:v1' | 'traefik';
    readonly targetRef: Reference;
    readonly autoscalerRef?: Reference;
    readonly ingressRef?: Reference;
    readonly progressDeadlineSeconds?: number;
    readonly skipAnalysis?: boolean;
    readonly service: { readonly name?: string; readonly port: number; readonly portName?: string; readonly targetPort?: number | string };
    readonly analysis: {
      readonly interval: string;
      readonly threshold: number;
      readonly maxWeight?: number;
      readonly stepWeight?: number;
      readonly stepWeights?: readonly number[];
      readonly stepWeightPromotion?: number;
      readonly metrics?: readonly {
        readonly name: string;
        readonly interval?: string;
        readonly templateRef?: { readonly name: string; readonly namespace?: string };
        readonly thresholdRange?: { readonly min?: number; readonly max?: number };
      }[];
      readonly webhooks?: readonly {
        readonly name: string;
        readonly type: 'confirm-rollout' | 'pre-rollout' | 'rollout' | 'confirm-traffic-increase' | 'confirm-promotion' | 'post-rollout' | 'rollback' | 'event';
        readonly url: string;
        readonly timeout?: string;
      }[];
    };
  };
}

export interface MetricTemplate {
  readonly apiVersion: 'flagger.app/v1beta1';
  readonly kind: 'MetricTemplate';
  readonly metadata: Metadata;
  readonly spec: {
    readonly provider: { readonly type: 'prometheus'; readonly address: string; readonly secretRef?: { readonly name: string } };
    readonly query: string;
  };
}
