import { describe, expect, it } from 'vitest';
import { csv } from '../src/export.js';

describe('CSV', () => {
  it('has the fields of all rows, and quotes what it must', () => {
    expect(csv([{ id: 'a', text: 'x, "y"' }, { id: 'b', list: [1, 2], none: null }])).toBe('id,text,list,none\r\na,"x, ""y""",,\r\nb,,"[1,2]",\r\n');
  });

  it('lets no text of a client be reckoned by a spreadsheet, and leaves numbers alone', () => {
    expect(csv([{ agent: '=HYPERLINK("x")', user: '@a', rtt: -1 }])).toBe(`agent,user,rtt\r\n"'=HYPERLINK(""x"")",'@a,-1\r\n`);
  });
});
