-- Publication reads one pattern at a time, and each organisation has a share.
CREATE INDEX clearinghouse_report_pattern ON clearinghouse_report (pattern, until);
CREATE INDEX clearinghouse_report_class ON clearinghouse_report (class, until);
