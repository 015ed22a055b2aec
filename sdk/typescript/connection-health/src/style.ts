/**
 * The element's looks, compact because nothing shortens them later. Every colour has a value for light and one for dark pages.
 * The shapes are made of borders, which forced colours keep visible. The panel is anchored to the button that opens it, below or
 * above, and moved as far as it must be to be whole; without CSS anchors it is at the top of the window.
 */
export const STYLE = `:host{display:inline-block;position:relative;font-size:.8rem;line-height:1.4}
:host([variant=bar]){display:block}
section{color:var(--ch-fg,CanvasText)}
.good{--s:var(--ch-good,light-dark(#1a7f37,#3fb950))}
.degraded,.reconnecting{--s:var(--ch-degraded,light-dark(#9a6700,#d29922))}
.poor{--s:var(--ch-poor,light-dark(#bc4c00,#f0883e))}
.disconnected{--s:var(--ch-down,light-dark(#cf222e,#f85149))}
button,[popover],:host([variant=panel]) section{border:1px solid var(--ch-border,#8886);border-radius:1em;background:var(--ch-bg,Canvas);color:inherit;font:inherit}
[part=pill],:host([variant=bar]) section{display:flex;flex-wrap:wrap;align-items:center;gap:.5em}
button{min-height:24px;padding:.25em .8em}
i,p{color:var(--s)}
i{border:.4em solid}
.good i,[class$=ing] i,.idle i{border-radius:1em}
.degraded i{rotate:45deg}
.poor i{scale:1 .4}
[class$=ing] i,.idle i{padding:.25em;border-width:.15em}
[class$=ing] i{border-inline-end-color:#0000;animation:s 1s infinite}
@media(prefers-reduced-motion:no-preference){@keyframes s{to{rotate:1turn}}}
span,dt{opacity:.8}
div{padding:.8em}
[popover],:host([variant=panel]) section{width:20em}
[popover]{margin:6px auto;box-shadow:0 4px 16px #0004;position-area:block-end;position-try:block-start}
dl,dd{margin:0}
dt{float:inline-start;clear:both}
dd{text-align:end}
p{margin:.8em 0 0}
div button{width:100%;margin-top:.8em}
:host([variant=bar]) section{padding:.25em;background:color-mix(in srgb,var(--s) 15%,Canvas)}
:host([variant]) [part=pill]{border-color:#0000;background:none;margin-inline-end:auto}
[role=status],:host([variant=dot]) :is(b,span){position:absolute;inset:0;overflow:hidden;opacity:0;z-index:-1}
[hidden],:host([hidden]){display:none!important}`;
