//! The results database: MySQL or MariaDB, or an SQLite file with the same tables and views.
