-- Roll-ups of metric channels: chunks of windows, each written by one process and again as it grows.

CREATE TABLE metric_channels (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- The digest is of channel, name, kind and tags, which together may be longer than an entry of an index.
CREATE TABLE metric_series (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel bigint NOT NULL,
    digest bytea NOT NULL UNIQUE,
    name text NOT NULL,
    kind text NOT NULL,
    tags text NOT NULL
);
CREATE INDEX metric_series_by_channel ON metric_series (channel);

-- In the order in which they are read of a channel. No index has `end_ms`, so that a chunk that grows changes none and
-- takes its old place again: there is room for that on each page.
CREATE TABLE metric_chunks (
    channel bigint NOT NULL,
    tier smallint NOT NULL,
    start_ms bigint NOT NULL,
    series bigint NOT NULL,
    writer bigint NOT NULL,
    end_ms bigint NOT NULL,
    crc bigint NOT NULL,
    windows bytea NOT NULL,
    PRIMARY KEY (channel, tier, start_ms, series, writer)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE metric_chunks ALTER COLUMN windows SET STORAGE EXTERNAL;
CREATE INDEX metric_chunks_by_series ON metric_chunks (series, tier, start_ms);
CREATE INDEX metric_chunks_by_age ON metric_chunks (tier, start_ms);

-- The longest that a chunk of a tier ever was: how long before a moment a chunk that reaches it can have begun.
CREATE TABLE metric_tiers (tier smallint PRIMARY KEY, span_ms bigint NOT NULL);

-- Keeps chunks; returns the numbers of the series for which there was no room. Whoever keeps holds the first lock
-- together with others, whoever trims alone, so a series is not removed while a chunk of it comes. Whoever makes series
-- holds the second: nobody makes one too many, or the same one twice. Neither is held by a query or a vacuum.
CREATE FUNCTION keep_chunks(
    channels text[], digests bytea[], names text[], kinds text[], tags text[], series_max bigint,
    series int[], tier smallint[], start_ms bigint[], writer bigint[], end_ms bigint[], crc bigint[], windows bytea[]
) RETURNS int[] LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ids bigint[];
    channel_ids bigint[];
BEGIN
    PERFORM set_config('synchronous_commit', 'local', true);
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('pulsewire.chunks.' || current_schema(), 0));
    FOR attempt IN 1 .. 2 LOOP
        SELECT array_agg(coalesce(s.id, 0) ORDER BY g.i), array_agg(coalesce(s.channel, 0) ORDER BY g.i)
            INTO ids, channel_ids
            FROM unnest(digests) WITH ORDINALITY AS g (digest, i) LEFT JOIN metric_series s ON s.digest = g.digest;
        EXIT WHEN attempt = 2 OR 0 <> ALL (ids);
        PERFORM pg_advisory_xact_lock(hashtextextended('pulsewire.series.' || current_schema(), 0));
        WITH fresh AS MATERIALIZED (
            SELECT g.* FROM unnest(channels, digests, names, kinds, keep_chunks.tags) WITH ORDINALITY
                AS g (channel, digest, name, kind, tags, i)
            WHERE NOT EXISTS (SELECT 1 FROM metric_series s WHERE s.digest = g.digest)
            ORDER BY g.i
            LIMIT greatest(series_max - (SELECT count(*) FROM metric_series), 0)
        ), made AS (
            INSERT INTO metric_channels (name)
            SELECT DISTINCT f.channel FROM fresh f
            WHERE NOT EXISTS (SELECT 1 FROM metric_channels c WHERE c.name = f.channel)
            RETURNING id, name
        )
        INSERT INTO metric_series (channel, digest, name, kind, tags)
            SELECT coalesce(m.id, c.id), f.digest, f.name, f.kind, f.tags
            FROM fresh f LEFT JOIN made m ON m.name = f.channel LEFT JOIN metric_channels c ON c.name = f.channel;
    END LOOP;
    INSERT INTO metric_chunks (channel, tier, start_ms, series, writer, end_ms, crc, windows)
        SELECT channel_ids[g.series], g.tier, g.start_ms, ids[g.series], g.writer, g.end_ms, g.crc, g.windows
        FROM unnest(keep_chunks.series, keep_chunks.tier, keep_chunks.start_ms, keep_chunks.writer,
                    keep_chunks.end_ms, keep_chunks.crc, keep_chunks.windows)
            AS g (series, tier, start_ms, writer, end_ms, crc, windows)
        WHERE ids[g.series] <> 0
        ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (channel, tier, start_ms, series, writer) DO UPDATE
            SET (end_ms, crc, windows) = (EXCLUDED.end_ms, EXCLUDED.crc, EXCLUDED.windows);
    -- A row that is long enough is not touched: it would be locked until the end.
    INSERT INTO metric_tiers AS t (tier, span_ms)
        SELECT g.tier, max(g.end_ms - g.start_ms) AS span_ms
        FROM unnest(keep_chunks.tier, keep_chunks.start_ms, keep_chunks.end_ms) AS g (tier, start_ms, end_ms)
        GROUP BY g.tier
        HAVING NOT EXISTS (SELECT 1 FROM metric_tiers k
                           WHERE k.tier = g.tier AND k.span_ms >= max(g.end_ms - g.start_ms))
        ORDER BY g.tier
        ON CONFLICT (tier) DO UPDATE SET span_ms = greatest(t.span_ms, EXCLUDED.span_ms);
    RETURN (SELECT coalesce(array_agg(u.i::int), '{}') FROM unnest(ids) WITH ORDINALITY AS u (id, i) WHERE u.id = 0);
END $$;

-- Removes chunks of a tier that end at or before a moment, those that began first; and series and channels that have
-- none left.
CREATE FUNCTION trim_chunks(of_tier smallint, before_ms bigint, chunks_max bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    removed bigint;
    of_series bigint[];
    of_channels bigint[];
BEGIN
    PERFORM set_config('synchronous_commit', 'local', true);
    PERFORM pg_advisory_xact_lock(hashtextextended('pulsewire.chunks.' || current_schema(), 0));
    WITH gone AS (
        DELETE FROM metric_chunks WHERE ctid = ANY (ARRAY(
            SELECT c.ctid FROM metric_chunks c
            WHERE c.tier = of_tier AND c.start_ms < before_ms AND c.end_ms <= before_ms
            ORDER BY c.start_ms LIMIT chunks_max))
        RETURNING series, channel
    )
    SELECT count(*), array_agg(DISTINCT series), array_agg(DISTINCT channel)
        INTO removed, of_series, of_channels FROM gone;
    DELETE FROM metric_series s WHERE s.id = ANY (of_series)
        AND NOT EXISTS (SELECT 1 FROM metric_chunks c WHERE c.series = s.id);
    DELETE FROM metric_channels n WHERE n.id = ANY (of_channels)
        AND NOT EXISTS (SELECT 1 FROM metric_series s WHERE s.channel = n.id);
    RETURN removed;
END $$;
