/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#define MAX_PID_NS_LEVEL 32

/* The number of the pid namespace whose pids are to be reported. */
volatile const __u32 pid_namespace;

static __always_inline __u32 pid_seen(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	if (!pid)
		return 0;
	__u32 level = pid->level;
	for (__u32 i = 0; i <= MAX_PID_NS_LEVEL; i++) {
		if (i > level)
			break;
		struct upid *u = (void *)pid + bpf_core_field_offset(pid->numbers)
				 + i * bpf_core_type_size(struct upid);
		if (BPF_CORE_READ(u, ns, ns.inum) == pid_namespace)
			return BPF_CORE_READ(u, nr);
	}
	return 0;
}
