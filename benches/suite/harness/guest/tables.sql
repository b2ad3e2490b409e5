-- Inserts, indexes, joins, updates, text search and aggregates in memory. The caller defines the table `size`.
CREATE TABLE items (id INTEGER PRIMARY KEY, value INTEGER, name TEXT);
BEGIN;
WITH RECURSIVE count(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < (SELECT rows FROM size))
INSERT INTO items SELECT i, i * 7919 % 100003, printf('item %d of %x', i, i * 31337) FROM count;
COMMIT;
CREATE INDEX by_value ON items (value);
CREATE INDEX by_name ON items (name);
SELECT count(*), sum(value) FROM items WHERE value BETWEEN 20000 AND 60000;
SELECT count(*) FROM items WHERE name LIKE '%f7%';
SELECT count(*), sum(a.value) FROM items a JOIN items b ON b.value = a.id AND b.id % 3 = 0;
UPDATE items SET value = value * 2 + 1 WHERE id % 4 = 1;
DELETE FROM items WHERE value % 10 = 3;
SELECT value % 100 AS part, count(*), min(name), max(name) FROM items GROUP BY part ORDER BY 2 DESC, 1 LIMIT 5;
SELECT group_concat(name) FROM (SELECT name FROM items ORDER BY name DESC LIMIT 5);
