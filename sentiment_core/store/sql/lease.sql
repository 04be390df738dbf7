-- Statements of lease.py. A token's lock is held by the session that stages with it, from before the token is known to
-- anybody else until the session's transaction ends.

-- name: draw
select nextval('sentiment.object_leases_token_seq')

-- name: lock_token
select pg_advisory_xact_lock(hashtextextended('sentiment.lease', :token))

-- name: found
-- Free is a lease whose holder's session has ended, or whose time is over. An end further away than a lease is long
-- comes of a clock that was set back: waiting for it could take hours.
select
    token, run_id,
    pg_try_advisory_xact_lock_shared(hashtextextended('sentiment.lease', token)) as is_left,
    expires_at not between clock_timestamp() and clock_timestamp() + make_interval(secs => :seconds) as is_over,
    extract(epoch from expires_at - clock_timestamp())::double precision as seconds_left
from sentiment.object_leases
where bucket = :bucket and key = :key

-- name: take
-- Only if it is still the lease that was found to be free. The disk is not waited for: what a crash takes a lease from
-- has lost its session as well.
insert into sentiment.object_leases as l (bucket, key, token, run_id, expires_at)
select :bucket, :key, :token, :run_id, clock_timestamp() + make_interval(secs => :seconds)
from set_config('synchronous_commit', 'off', true)
on conflict (bucket, key) do update
set token = excluded.token, run_id = excluded.run_id, expires_at = excluded.expires_at
where l.token = :found

-- name: patience
select set_config('lock_timeout', :milliseconds, true)

-- name: wait
select pg_advisory_xact_lock_shared(hashtextextended('sentiment.lease', :token))

-- name: renew
update sentiment.object_leases set expires_at = clock_timestamp() + make_interval(secs => :seconds)
where bucket = :bucket and key = :key and token = :token

-- name: hand_back
delete from sentiment.object_leases where bucket = :bucket and key = :key and token = :token

-- name: bound_idleness
-- From here to the commit others have to wait for this session, so that it may not fall asleep. Everything that follows
-- is one statement after the other: a minute without one is a machine that has stopped.
set local idle_in_transaction_session_timeout = '60s'
