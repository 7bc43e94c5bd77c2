-- Two versions of the program side by side: which programs may use this schema. Without it, whoever migrates first would
-- stop every process of the version before, instead of letting a deploy replace one after the other.

create table schema_floor (
  id integer primary key not null,
  oldest_program bigint not null,   -- the newest migration that a program must know to use this schema; a migration that
                                   -- breaks older programs raises it to its own number, all others leave it
  constraint schema_floor_one check (id = 1),
  constraint schema_floor_known check (oldest_program >= 29)
);
insert into schema_floor (id, oldest_program) values (1, 29);
