CREATE TABLE meta (key text PRIMARY KEY, value text NOT NULL);
INSERT INTO meta (key, value) VALUES ('epoch', substr(md5(gen_random_uuid()::text), 1, 12)), ('probed', '0');

-- Every batch updates a few rows here: room for new versions on the same page, and an early vacuum.
CREATE TABLE channels (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    head bigint NOT NULL DEFAULT 0,
    floor bigint NOT NULL DEFAULT 0,
    critical_floor bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

-- The epoch is the store's, not the row's: a new one is given to all that is left, so (channel, sequence) is unique
-- within it, which is more than (channel, epoch, sequence) would say.
CREATE TABLE events (
    channel bigint NOT NULL,
    sequence bigint NOT NULL,
    type text NOT NULL,
    data text NOT NULL,
    id text,
    "user" text,
    key bytea,
    tags text,
    timestamp bigint NOT NULL,
    critical boolean NOT NULL,
    kept_at bigint NOT NULL,
    crc bigint NOT NULL,
    PRIMARY KEY (channel, sequence)
);
CREATE INDEX events_critical ON events (channel, sequence) WHERE critical;

CREATE TABLE ids (
    channel bigint NOT NULL,
    dedup bytea NOT NULL,
    payload bigint NOT NULL,
    sequence bigint NOT NULL,
    kept_at bigint NOT NULL,
    PRIMARY KEY (channel, dedup)
);
CREATE INDEX ids_by_age ON ids (channel, sequence);

CREATE TABLE state (
    channel bigint NOT NULL,
    key bytea NOT NULL,
    sequence bigint NOT NULL,
    type text NOT NULL,
    data text NOT NULL,
    id text,
    "user" text,
    tags text,
    timestamp bigint NOT NULL,
    critical boolean NOT NULL,
    crc bigint NOT NULL,
    PRIMARY KEY (channel, key)
);
CREATE INDEX state_by_age ON state (channel, sequence);

-- Document 003's table.
CREATE VIEW persisted_collaboration_messages AS
    SELECT c.name || '#' || e.sequence AS id,
           substr(c.name, 5) AS run_id,
           e."user" AS user_id,
           e.type AS event_type,
           e.data::json AS message_data,
           to_timestamp(e.timestamp / 1000.0) AT TIME ZONE 'UTC' AS timestamp,
           e.sequence AS sequence_number,
           e.critical AS is_critical
    FROM events e JOIN channels c ON c.id = e.channel
    WHERE c.name LIKE 'run:%';

-- The timeline that is being written; NULL where it may not be known. The position of the log is of this moment,
-- the control file only of the last checkpoint, which after a promotion can be the old primary's.
CREATE FUNCTION timeline() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
EXCEPTION WHEN OTHERS THEN
    BEGIN
        RETURN lpad(upper(to_hex(timeline_id)), 8, '0') FROM pg_control_checkpoint();
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
END $$;

-- Called by each new connection: history may have been rewritten if another server was promoted meanwhile.
CREATE FUNCTION enter(synchronous boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    present text := timeline();
BEGIN
    IF present IS NULL OR EXISTS (SELECT 1 FROM meta WHERE key = 'timeline' AND value = present) THEN
        RETURN;
    END IF;
    PERFORM 1 FROM meta WHERE key = 'epoch' FOR UPDATE;
    IF NOT synchronous AND EXISTS (SELECT 1 FROM meta WHERE key = 'timeline' AND value <> present) THEN
        UPDATE meta SET value = substr(md5(gen_random_uuid()::text), 1, 12) WHERE key = 'epoch';
    END IF;
    INSERT INTO meta (key, value) VALUES ('timeline', present) ON CONFLICT (key) DO UPDATE SET value = present;
END $$;

-- Keeps a batch. A request whose keys stand in one before it comes in a later round, so that a round is decided at
-- once; `rounds` holds the last request of each. Of a refused request the first conflict is marked, and there are no
-- sequences. Channel rows are locked in the order of their ids, so two batches never wait for each other in a circle.
-- What belongs together is found by windows: a join would be planned for a few rows and run with hundreds.
CREATE FUNCTION keep(
    names text[], rounds int[], strict boolean, at_ms bigint,
    request int[], channel int[], dedup bytea[], payload bigint[], keyed boolean[], type text[], data text[],
    id text[], "user" text[], key bytea[], tags text[], "timestamp" bigint[], critical boolean[], crc bigint[],
    OUT epoch text, OUT sequences bigint[], OUT duplicates boolean[], OUT conflicts boolean[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    channel_ids bigint[];
    heads bigint[];
    before int := 0;
    last int;
    round record;
BEGIN
    IF NOT strict THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    ELSIF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO channels (name)
        SELECT n.name FROM unnest(names) AS n (name)
        WHERE NOT EXISTS (SELECT 1 FROM channels c WHERE c.name = n.name)
        ORDER BY n.name COLLATE "C"
        ON CONFLICT (name) DO NOTHING;
    PERFORM 1 FROM channels c WHERE c.name = ANY (names) ORDER BY c.id FOR UPDATE;
    sequences := '{}';
    duplicates := '{}';
    conflicts := '{}';
    FOREACH last IN ARRAY rounds LOOP
        SELECT array_agg(c.id ORDER BY n.i), array_agg(c.head ORDER BY n.i) INTO channel_ids, heads
            FROM unnest(names) WITH ORDINALITY AS n (name, i) JOIN channels c ON c.name = n.name;
        WITH placed AS (
            SELECT g.*, channel_ids[g.channel] AS channel_id, heads[g.channel] AS head, k.sequence AS known,
                   first_value(g.i) OVER same AS first_i,
                   g.payload <> coalesce(k.payload, first_value(g.payload) OVER same) AS conflict
            FROM unnest(keep.request, keep.channel, keep.dedup, keep.payload, keep.keyed, keep.type, keep.data, keep.id,
                        keep."user", keep.key, keep.tags, keep."timestamp", keep.critical, keep.crc) WITH ORDINALITY
                 AS g (request, channel, dedup, payload, keyed, type, data, id, "user", key, tags, "timestamp", critical,
                       crc, i)
            LEFT JOIN ids k ON k.channel = channel_ids[g.channel] AND k.dedup = g.dedup
            WHERE g.request > before AND g.request <= last
            WINDOW same AS (PARTITION BY g.request, g.channel, g.dedup ORDER BY g.i)
        ), judged AS (
            SELECT p.*, min(p.i) FILTER (WHERE p.conflict) OVER (PARTITION BY p.request) AS refused_i FROM placed p
        ), sorted AS (
            SELECT j.*, j.known IS NULL AND j.first_i = j.i AND j.refused_i IS NULL AS fresh FROM judged j
        ), numbered AS MATERIALIZED (
            SELECT s.*, coalesce(s.known, s.head + count(*) FILTER (WHERE s.fresh)
                                 OVER (PARTITION BY s.channel ORDER BY s.i)) AS sequence
            FROM sorted s
        ), kept AS (
            INSERT INTO events
                (channel, sequence, type, data, id, "user", key, tags, timestamp, critical, kept_at, crc)
            SELECT f.channel_id, f.sequence, f.type, f.data, f.id, f."user", f.key, f.tags, f."timestamp", f.critical,
                   at_ms, f.crc
            FROM numbered f WHERE f.fresh
        ), named AS (
            INSERT INTO ids (channel, dedup, payload, sequence, kept_at)
            SELECT f.channel_id, f.dedup, f.payload, f.sequence, at_ms FROM numbered f WHERE f.fresh
        ), moved AS (
            UPDATE channels c SET head = f.head
            FROM (SELECT n.channel_id, max(n.sequence) AS head FROM numbered n WHERE n.fresh GROUP BY n.channel_id) f
            WHERE c.id = f.channel_id
        ), newest AS MATERIALIZED (
            SELECT DISTINCT ON (f.channel_id, f.key) f.* FROM numbered f WHERE f.fresh AND f.keyed
            ORDER BY f.channel_id, f.key, f.sequence DESC
        ), unset AS (
            DELETE FROM state s USING newest n
            WHERE n.data = 'null' AND s.channel = n.channel_id AND s.key = n.key
        ), valued AS (
            INSERT INTO state AS s (channel, key, sequence, type, data, id, "user", tags, timestamp, critical, crc)
            SELECT n.channel_id, n.key, n.sequence, n.type, n.data, n.id, n."user", n.tags, n."timestamp", n.critical,
                   n.crc
            FROM newest n WHERE n.data <> 'null'
            ON CONFLICT (channel, key) DO UPDATE SET
                (sequence, type, data, id, "user", tags, timestamp, critical, crc) =
                (EXCLUDED.sequence, EXCLUDED.type, EXCLUDED.data, EXCLUDED.id, EXCLUDED."user", EXCLUDED.tags,
                 EXCLUDED.timestamp, EXCLUDED.critical, EXCLUDED.crc)
        ), answered AS (
            SELECT n.i, n.known IS NOT NULL OR n.first_i <> n.i AS duplicate, n.refused_i IS NOT DISTINCT FROM n.i AS conflict,
                   CASE WHEN n.refused_i IS NULL
                        THEN first_value(n.sequence) OVER (PARTITION BY n.request, n.channel, n.dedup ORDER BY n.i) END
                   AS sequence
            FROM numbered n
        )
        SELECT array_agg(a.sequence ORDER BY a.i) AS sequences, array_agg(a.duplicate ORDER BY a.i) AS duplicates,
               array_agg(a.conflict ORDER BY a.i) AS conflicts
        INTO round FROM answered a;
        sequences := sequences || round.sequences;
        duplicates := duplicates || round.duplicates;
        conflicts := conflicts || round.conflicts;
        before := last;
    END LOOP;
    SELECT m.value INTO epoch FROM meta m WHERE m.key = 'epoch';
END $$;

-- Removes what a channel may no longer keep, and moves its floors in the same step.
CREATE FUNCTION trim_channel(
    channel_name text, history_max bigint, critical_max bigint, critical_ttl_ms bigint, state_max bigint, ids_ms bigint,
    ids_max bigint, now_ms bigint
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c channels;
    gone bigint;
    excess bigint;
BEGIN
    SELECT * INTO c FROM channels WHERE name = channel_name FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    gone := greatest(
        (SELECT sequence FROM events WHERE channel = c.id AND critical
         ORDER BY sequence DESC OFFSET critical_max LIMIT 1),
        (SELECT max(sequence) FROM events WHERE channel = c.id AND critical AND critical_ttl_ms > 0
         AND kept_at < now_ms - critical_ttl_ms),
        0);
    -- What follows the floor has no holes, so it moves behind a critical event that goes.
    c.critical_floor := greatest(c.critical_floor, gone);
    c.floor := greatest(
        (SELECT sequence FROM events WHERE channel = c.id AND NOT critical
         ORDER BY sequence DESC OFFSET history_max LIMIT 1),
        c.floor, gone);
    UPDATE channels SET floor = c.floor, critical_floor = c.critical_floor WHERE id = c.id;
    DELETE FROM events WHERE channel = c.id AND sequence <= c.floor AND NOT critical;
    DELETE FROM events WHERE channel = c.id AND sequence <= c.critical_floor AND critical;
    excess := (SELECT sequence FROM ids WHERE channel = c.id ORDER BY sequence DESC OFFSET ids_max LIMIT 1);
    DELETE FROM ids i
        WHERE i.channel = c.id AND i.sequence <= c.floor
        AND (i.kept_at <= now_ms - ids_ms OR i.sequence <= coalesce(excess, 0))
        AND NOT EXISTS (SELECT 1 FROM events e WHERE e.channel = i.channel AND e.sequence = i.sequence);
    DELETE FROM state WHERE channel = c.id AND sequence <=
        (SELECT sequence FROM state WHERE channel = c.id ORDER BY sequence DESC OFFSET state_max LIMIT 1);
END $$;
