//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What happens to processes and TCP connections, as events in a ring:
 *
 *   forked, executed, exited   each process, with who started it
 *   changed                    each connection, when it is open and when it ends
 *
 * A connection is accepted, and most are closed by the other side, in an
 * interrupt, where no process is seen. The process that has locked a socket when
 * its state changes is one that holds it: so it is at connect(2), close(2) and
 * shutdown(2). Only processes of one pid namespace are reported. */
#include "kernel.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pid.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

enum { FORKED = 1, EXECUTED, EXITED, OPENED, CLOSED };
enum { OUTBOUND = 1, INBOUND };
enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK };

/* Whether command lines may be recorded. */
volatile const __u32 with_arguments;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* What is known of a connection until it ends. */
struct opening {
	__u64 time;
	__u64 start;	/* of the process */
	__u32 pid;	/* who opened it; 0 if the other side did */
	__u8 side;
	__u8 told;	/* its end is reported */
	__u8 unused[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct opening);
} connections SEC(".maps");

#define ARGUMENTS 192

/* Events are read by Go in host order. Both kinds begin alike. */
struct process_event {
	__u64 time;	/* ns since boot, suspend included */
	__u32 kind;
	__u32 pid;
	__u64 start;
	__u64 parent_start;
	__u32 parent;
	__u32 uid;
	__u32 login;
	__u32 session;
	char comm[16];
	/* Of EXECUTED only. */
	char tty[16];
	char cgroup[80];
	__u32 length;	/* of arguments */
	char arguments[ARGUMENTS];
	__u32 unused;
};

struct connection_event {
	__u64 time;
	__u32 kind;
	__u32 pid;	/* a process that holds it; 0 if none is seen */
	__u64 start;
	__u64 opened;
	__u64 opener_start;
	__u32 opener;
	__u32 uid;
	__u32 netns;
	__u16 local_port;
	__u16 remote_port;
	__u8 local[16];
	__u8 remote[16];
	__u8 family;
	__u8 side;
	__u8 unused[6];
};

static __always_inline void *reserve(__u64 size)
{
	void *e = bpf_ringbuf_reserve(&events, size, 0);
	if (!e) {
		__u32 zero = 0;
		__u64 *n = bpf_map_lookup_elem(&lost, &zero);
		if (n)
			(*n)++;
	}
	return e;
}

#define HEAD __builtin_offsetof(struct process_event, tty)

static __always_inline void about(struct process_event *e, struct task_struct *task, __u32 kind, __u32 pid)
{
	struct task_struct *parent = task->real_parent->group_leader;

	e->time = bpf_ktime_get_boot_ns();
	e->kind = kind;
	e->pid = pid;
	e->start = BPF_CORE_READ(task, group_leader, start_boottime);
	e->parent = pid_seen(parent);
	e->parent_start = BPF_CORE_READ(parent, start_boottime);
	e->uid = BPF_CORE_READ(task, cred, uid.val);
	e->login = BPF_CORE_READ(task, loginuid.val);
	e->session = BPF_CORE_READ(task, sessionid);
	BPF_CORE_READ_INTO(&e->comm, task, comm);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(forked, struct task_struct *parent, struct task_struct *child)
{
	if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid))
		return 0;	/* a thread */
	__u32 pid = pid_seen(child);
	if (!pid)
		return 0;
	struct process_event *e = reserve(HEAD);
	if (!e)
		return 0;
	about(e, child, FORKED, pid);
	/* real_parent may be the parent's own parent (CLONE_PARENT): who called
	 * fork is who started it. */
	struct task_struct *by = parent->group_leader;
	e->parent = pid_seen(by);
	e->parent_start = BPF_CORE_READ(by, start_boottime);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(executed, struct task_struct *task)
{
	__u32 pid = pid_seen(task->group_leader);
	if (!pid)
		return 0;
	struct process_event *e = reserve(sizeof(*e));
	if (!e)
		return 0;
	about(e, task, EXECUTED, pid);
	__builtin_memset(e->tty, 0, sizeof(e->tty));
	__builtin_memset(e->cgroup, 0, sizeof(e->cgroup));
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	if (tty)
		bpf_probe_read_kernel(e->tty, sizeof(e->tty) - 1, &tty->name);
	const char *group = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, name);
	if (group)
		bpf_probe_read_kernel_str(e->cgroup, sizeof(e->cgroup), group);
	e->length = 0;
	e->unused = 0;
	if (with_arguments) {
		unsigned long from = BPF_CORE_READ(task, mm, arg_start), to = BPF_CORE_READ(task, mm, arg_end);
		__u64 size = to - from;
		if (size > ARGUMENTS)
			size = ARGUMENTS;
		if (to > from && !bpf_probe_read_user(e->arguments, size, (void *)from))
			e->length = size;
	}
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exited, struct task_struct *task)
{
	if (BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
		return 0;
	__u32 pid = pid_seen(task);
	if (!pid)
		return 0;
	struct process_event *e = reserve(HEAD);
	if (!e)
		return 0;
	about(e, task, EXITED, pid);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline void tell(struct sock *sk, struct opening *b, __u32 kind, __u32 pid, __u64 start)
{
	struct connection_event *e = reserve(sizeof(*e));
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_boot_ns();
	e->kind = kind;
	e->pid = pid;
	e->start = start;
	e->opened = b->time;
	e->opener = b->pid;
	e->opener_start = b->start;
	e->side = b->side;
	e->uid = sk->sk_uid.val;
	e->netns = sk->__sk_common.skc_net.net->ns.inum;
	e->family = sk->__sk_common.skc_family;
	/* skc_num is 0 already where a reset closes the socket. */
	e->local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	e->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (e->family == AF_INET) {
		*(__be32 *)e->local = sk->__sk_common.skc_rcv_saddr;
		*(__be32 *)e->remote = sk->__sk_common.skc_daddr;
	} else {
		BPF_CORE_READ_INTO((struct in6_addr *)e->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)e->remote, sk, __sk_common.skc_v6_daddr);
	}
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* The process that has locked a socket; false if none of ours has. */
static __always_inline int locked_by(struct sock *sk, __u32 *pid, __u64 *start)
{
	if (!sk->sk_lock.owned)
		return 0;
	struct task_struct *by = ((struct task_struct *)bpf_get_current_task_btf())->group_leader;
	*pid = pid_seen(by);
	*start = by->start_boottime;
	return *pid != 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(changed, struct sock *sk, int before, int now)
{
	__u32 pid = 0;
	__u64 start = 0;
	struct opening *b;

	if (now != TCP_SYN_SENT && now != TCP_ESTABLISHED && now != TCP_FIN_WAIT1 && now != TCP_LAST_ACK && now != TCP_CLOSE)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (now == TCP_SYN_SENT || (now == TCP_ESTABLISHED && before == TCP_SYN_RECV)) {
		if (now == TCP_SYN_SENT && !locked_by(sk, &pid, &start))
			return 0;
		b = bpf_sk_storage_get(&connections, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!b)
			return 0;
		b->time = bpf_ktime_get_boot_ns();
		b->side = now == TCP_SYN_SENT ? OUTBOUND : INBOUND;
		b->told = 0;
		b->pid = pid;
		b->start = start;
		if (now == TCP_ESTABLISHED)
			tell(sk, b, OPENED, 0, 0);
		return 0;
	}
	b = bpf_sk_storage_get(&connections, sk, 0, 0);
	if (!b || b->told)
		return 0;
	if (now == TCP_ESTABLISHED) {
		tell(sk, b, OPENED, b->pid, b->start);
		return 0;
	}
	if (before == TCP_SYN_SENT)
		return 0;	/* it never was open */
	b->told = 1;
	if (!locked_by(sk, &pid, &start))
		start = 0;
	tell(sk, b, CLOSED, pid, start);
	return 0;
}

char _license[] SEC("license") = "GPL";
