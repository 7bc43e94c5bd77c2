-- What became of an approval: {"decision", "by", "comment", "at"}; made once, kept with its task.

alter table tasks add column decision json;
