-- A tenant's missions that are not over are counted before another one begins, where it has a limit.

create index runs_live on runs (tenant_id) where ended_at is null;
