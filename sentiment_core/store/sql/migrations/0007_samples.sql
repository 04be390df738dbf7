-- Samples come compressed: trying to compress them again takes longer than writing them.
alter table sentiment.drift_sketches alter column sample set storage external;
